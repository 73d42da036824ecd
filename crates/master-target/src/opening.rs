//! From a request for a session to one: the disk opened, everything that forbids the pass said, and the number durable.
//!
//! **Invariant**: nothing of the target changes, and nothing that is trusted of it, before all of that was judged.

use crate::target::{Target, TargetDisk};
use failback_model::{BlockSize, Code, Epoch, Finding, Layout, PointClaim, PointLabel, SessionNumber};
use failback_session::handshake::Accepting;
use failback_wire::Open;

/// Opens a disk, judges it, and begins a session of it, durably. What forbids it is said all at once.
pub(crate) async fn begin(
    disk: TargetDisk,
    open: Open,
    block_size: BlockSize,
    accepting: &mut Accepting,
) -> Result<(Target, Layout, SessionNumber), Finding> {
    check_epoch(&open, disk.store.state().epoch)?;
    let newest = disk.machine.points().pop();
    check_cycle(&open, disk.store.sealed_claim(), newest.map(|point| point.claim))?;
    let epoch = open.epoch;
    let looked = blocking(move || {
        let mut target = disk.open(open.length_bytes)?;
        let found = target.check(&open)?;
        Ok((target, found))
    });
    let (target, mut found) = looked.await?;
    let agreed = accepting.handle_target(target.offer(epoch)).map_err(said);
    let pass_bytes = match agreed {
        Ok(pass_bytes) => pass_bytes,
        Err(first) => {
            found.insert(0, first);
            0
        }
    };
    if let Some(finding) = together(found) {
        return Err(finding);
    }
    let layout = Layout::new(pass_bytes, block_size)
        .map_err(|error| Finding::error(Code::ImageSizeUnsupported, error.to_string()))?;
    let (target, number) = blocking(move || target.begin(epoch, layout)).await?;
    Ok((target, layout, number))
}

/// One finding that says all: a refusal has one code, the first one's.
fn together(found: Vec<Finding>) -> Option<Finding> {
    let mut found = found.into_iter();
    let mut first = found.next()?;
    for other in found {
        let (code, title) = (other.code.as_str(), other.code.title());
        first.evidence += &format!("; also {code}, {title}: {}", other.evidence);
    }
    Some(first)
}

/// Disks are opened and journals written on threads that may wait.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Finding> + Send + 'static,
) -> Result<T, Finding> {
    let lost = |error| Finding::error(Code::Internal, format!("opening a disk: {error}"));
    tokio::task::spawn_blocking(work).await.map_err(lost)?
}

/// A job that is over neither writes to a disk nor ends the pass of the one that took its place.
pub(crate) fn check_epoch(open: &Open, seen: Epoch) -> Result<(), Finding> {
    if open.epoch >= seen {
        return Ok(());
    }
    let reason = format!("the job's epoch {} is over: disk {} has seen {seen}", open.epoch, open.disk);
    Err(Finding::error(Code::SourceOlder, reason))
}

/// A job's cycles count up, and nothing of it follows a recovery point whose source was off.
fn check_cycle(
    open: &Open,
    sealed: Option<(Epoch, PointClaim)>,
    newest: Option<PointClaim>,
) -> Result<(), Finding> {
    let Some((_, sealed)) = sealed.filter(|(epoch, sealed)| *epoch == open.epoch && sealed.cycle > 0) else {
        return Ok(());
    };
    let (disk, now) = (&open.disk, open.claim.cycle);
    if now < sealed.cycle {
        let reason = format!("cycle {now} is over: disk {disk} was sealed by cycle {}", sealed.cycle);
        return Err(Finding::error(Code::SourceOlder, reason));
    }
    // A final cycle that not all disks of the machine came to is none: its source was started again.
    let is_final =
        newest.is_some_and(|point| point.label == PointLabel::Final && point.cycle == sealed.cycle);
    if now > sealed.cycle && is_final {
        let reason =
            format!("{} was sealed by its final cycle {}: nothing follows it", open.machine, sealed.cycle);
        return Err(Finding::error(Code::SourceOlder, reason)
            .with_remedy("cut over to it; to replicate again begin a new job with 'failback reprotect'"));
    }
    Ok(())
}

pub(crate) fn said(error: failback_session::SessionError) -> Finding {
    Finding::error(error.code, error.reason)
}
