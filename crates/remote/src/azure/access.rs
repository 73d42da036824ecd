//! The signature in force, and how a new one comes in its place.
//!
//! **Invariant**: one thread at a time asks for a new signature; the others wait for what it gets. A command's output is a
//! secret and never repeated.

use super::address::BlobUrl;
use super::service::Patience;
use crate::arm::ManagedRead;
use crate::command::{Bounds, output_of};
use crate::http::SecretUrl;
use crate::open::OpenOptions;
use crate::spec::BlobAddress;
use crate::waits::Waits;
use failback_model::limits::BLOB_URL_MAX_BYTES;
use failback_model::{Code, Finding};
use std::process::Stdio;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A blob's URL, renewed where it can be.
#[derive(Debug)]
pub(super) struct Access {
    address: BlobAddress,
    renew: Vec<String>,
    /// Gives URLs itself.
    managed: Option<Arc<ManagedRead>>,
    snapshot: Option<String>,
    patience: Patience,
    waits: Waits,
    state: Mutex<State>,
    renewed: Condvar,
}

#[derive(Debug)]
struct State {
    url: BlobUrl,
    /// One more with each URL.
    generation: u64,
    is_renewing: bool,
    /// It was let in once: a refusal is an end that may be mended, no mistake.
    is_proven: bool,
}

impl Access {
    /// Reads the URL from where it stands.
    pub(super) fn new(
        address: &BlobAddress,
        options: &OpenOptions,
        patience: Patience,
    ) -> Result<Self, Finding> {
        let url = match &options.managed {
            Some(state) => of_state(state.url()?)?,
            None => address.url()?.at_snapshot(options.snapshot.as_deref()),
        };
        let state = State { url, generation: 0, is_renewing: false, is_proven: false };
        Ok(Self {
            address: address.clone(),
            renew: options.renew.clone(),
            managed: options.managed.clone(),
            snapshot: options.snapshot.clone(),
            patience,
            waits: options.waits.clone(),
            state: Mutex::new(state),
            renewed: Condvar::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The URL in force and its number; waits while another one is fetched.
    pub(super) fn current(&self) -> (u64, BlobUrl) {
        let mut state = self.lock();
        while state.is_renewing {
            state = self.renewed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        (state.generation, state.url.clone())
    }

    /// A request with the URL in force was let in.
    pub(super) fn prove(&self) {
        self.lock().is_proven = true;
    }

    /// Gets another URL in the place of number `refused`, which the service refused.
    pub(super) fn replace(&self, refused: u64) -> Result<(), Finding> {
        let mut state = self.lock();
        loop {
            if state.generation != refused {
                return Ok(());
            }
            if !state.is_renewing {
                break;
            }
            state = self.renewed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.is_renewing = true;
        let (old, is_proven) = (state.url.clone(), state.is_proven);
        drop(state);
        let made = match &self.managed {
            Some(state) => state.renew().and_then(of_state),
            None if self.renew.is_empty() => self.await_other(&old, is_proven),
            None => self.ask_command(),
        };
        let mut state = self.lock();
        state.is_renewing = false;
        self.renewed.notify_all();
        state.url = made?;
        state.generation += 1;
        Ok(())
    }

    /// Gets another URL before the one in force is refused; the one in force where there is nothing to get it from.
    pub(super) fn refresh(&self) -> Result<(u64, BlobUrl), Finding> {
        let (generation, url) = self.current();
        let Some(managed) = &self.managed else { return Ok((generation, url)) };
        let fresh = of_state(managed.url()?)?;
        if fresh == url {
            return Ok((generation, url));
        }
        let mut state = self.lock();
        if state.generation == generation && !state.is_renewing {
            (state.url, state.generation) = (fresh, generation + 1);
        }
        Ok((state.generation, state.url.clone()))
    }

    fn at_snapshot(&self, url: BlobUrl) -> BlobUrl {
        url.at_snapshot(self.snapshot.as_deref())
    }

    /// Looks at the file until it holds another URL.
    fn await_other(&self, old: &BlobUrl, is_proven: bool) -> Result<BlobUrl, Finding> {
        let place = self.address.place();
        let refused = |how: &str| {
            let evidence = format!("the signature in {} is refused{how}", place.display());
            Err(Finding::error(Code::SourceDenied, evidence).about(&place))
        };
        if !self.address.can_change() {
            return refused("; it stands where no new one can be put, and there is no command to renew it");
        }
        let (started, mut told) = (Instant::now(), None);
        loop {
            // A file that is just being replaced may be missing or half written: it is looked at again.
            if let Ok(url) = self.address.url().map(|url| self.at_snapshot(url))
                && url != *old
            {
                return Ok(url);
            }
            if !is_proven {
                return refused("");
            }
            if started.elapsed() >= self.patience.signature_wait {
                let minutes = self.patience.signature_wait.as_secs().div_ceil(60);
                return refused(&format!(", and no other came within {minutes} min"));
            }
            self.waits.check()?;
            told.get_or_insert_with(|| {
                let evidence =
                    format!("the signature in {} is refused: waits for a new one", place.display());
                self.waits.begin(&Finding::warning(Code::SourceDenied, evidence).about(&place))
            });
            self.waits.pause(self.patience.signature_poll)?;
        }
    }

    /// Runs the command and takes the URL that it writes.
    fn ask_command(&self) -> Result<BlobUrl, Finding> {
        let failed = |reason: String| {
            let evidence = format!("the command that renews the signature, '{}', {reason}", self.renew[0]);
            Finding::error(Code::SourceDenied, evidence)
        };
        let bounds =
            Bounds { bytes: BLOB_URL_MAX_BYTES, time: self.patience.command_wait, waits: &self.waits };
        let text = output_of(&self.renew, Stdio::null(), &bounds)
            .map_err(|reason| self.waits.check().err().unwrap_or_else(|| failed(reason)))?;
        BlobUrl::parse(&text)
            .map(|url| self.at_snapshot(url))
            .map_err(|reason| failed(format!("wrote no URL of a blob: {reason}")))
    }
}

/// The URL of a state, as the cloud gave it.
fn of_state(url: SecretUrl) -> Result<BlobUrl, Finding> {
    BlobUrl::of(url)
        .map_err(|reason| Finding::error(Code::CloudFailed, format!("the URL to read a state by: {reason}")))
}
