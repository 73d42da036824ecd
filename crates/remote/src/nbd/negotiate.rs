//! Fixed newstyle negotiation: from the server's greeting to an export that can be read.
//!
//! **Invariant**: what an export is, was said by the server in this negotiation, and holds together: sizes are multiples of
//! the smallest block, a disk is no larger than 64 TiB.

use super::error::NbdError;
use super::wire::{self, flag, info, option, read_array, read_bounded, reply, take, words};
use failback_model::limits::{
    DISK_MAX_BYTES, NBD_LISTED_MAX, NBD_MIN_BLOCK_MAX_BYTES, NBD_OPTION_REPLIES_MAX,
    NBD_OPTION_REPLY_MAX_BYTES, NBD_REQUEST_BYTES, NBD_REQUEST_MAX_BYTES, NBD_TEXT_MAX_BYTES,
};
use std::io::{Read, Write};

/// What the server said of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Length in bytes.
    pub length_bytes: u64,
    /// Transmission flags.
    pub flags: u16,
    /// Every request begins and ends on a multiple of this.
    pub min_block_bytes: u32,
    /// Data of one request, a multiple of the smallest block.
    pub request_bytes: u32,
    /// Whether replies are structured.
    pub is_structured: bool,
    /// Id of the metadata context that was asked for, where the server has it.
    pub context: Option<u32>,
}

impl Export {
    /// Whether the server offers several connections. Many serve one client only, and let others wait.
    pub const fn is_multi_conn(&self) -> bool {
        self.flags & flag::MULTI_CONN != 0
    }

    /// Whether another connection shows the same; the id of a context is the connection's.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let both_or_none = self.context.is_some() == other.context.is_some();
        both_or_none && *self == Self { context: self.context, ..other.clone() }
    }
}

/// One reply to an option.
struct Reply {
    kind: u32,
    data: Vec<u8>,
}

/// Reads the greeting and answers it.
pub fn greet(stream: &mut (impl Read + Write)) -> Result<(), NbdError> {
    let magic = u64::from_be_bytes(read_array(stream)?);
    if magic != wire::GREETING {
        return Err(NbdError::Unsupported("what answers there is no NBD server".into()));
    }
    if u64::from_be_bytes(read_array(stream)?) != wire::OPTION {
        return Err(NbdError::Unsupported("the server speaks the old protocol of NBD (oldstyle)".into()));
    }
    let flags = u16::from_be_bytes(read_array(stream)?);
    if flags & wire::FIXED_NEWSTYLE == 0 {
        return Err(NbdError::Unsupported("the server does not speak fixed newstyle".into()));
    }
    let ours = u32::from(flags & (wire::FIXED_NEWSTYLE | wire::NO_ZEROES));
    stream.write_all(&ours.to_be_bytes())?;
    Ok(stream.flush()?)
}

/// Asks for TLS; after it the stream is the server's to encrypt.
pub fn start_tls(stream: &mut (impl Read + Write)) -> Result<(), NbdError> {
    send(stream, option::STARTTLS, &[])?;
    let answer = receive(stream, option::STARTTLS)?;
    match answer.kind {
        reply::ACK if answer.data.is_empty() => Ok(()),
        reply::ACK => Err(NbdError::broken("the server's consent to TLS carries data")),
        reply::UNSUPPORTED | reply::POLICY | reply::PLATFORM => {
            Err(NbdError::Unsupported("the server speaks no TLS".into()))
        }
        _ => Err(refused("TLS", &answer)),
    }
}

/// Enters an export; asks for a metadata context beside it where one is named.
pub fn enter(
    stream: &mut (impl Read + Write),
    name: &str,
    context: Option<&str>,
) -> Result<Export, NbdError> {
    if name.len() > NBD_TEXT_MAX_BYTES || context.is_some_and(|context| context.len() > NBD_TEXT_MAX_BYTES) {
        return Err(NbdError::Unsupported(format!("a name is longer than {NBD_TEXT_MAX_BYTES} bytes")));
    }
    let is_structured = ask_structured(stream)?;
    let context = match context {
        Some(context) if is_structured => set_context(stream, name, context)?,
        _ => None,
    };
    Ok(Export { is_structured, context, ..go(stream, name)? })
}

/// Asks for structured replies, without which there are no contexts.
pub(super) fn structured(stream: &mut (impl Read + Write)) -> Result<(), NbdError> {
    match ask_structured(stream)? {
        true => Ok(()),
        false => Err(NbdError::Unsupported("the server has no structured replies".into())),
    }
}

fn ask_structured(stream: &mut (impl Read + Write)) -> Result<bool, NbdError> {
    send(stream, option::STRUCTURED_REPLY, &[])?;
    let answer = receive(stream, option::STRUCTURED_REPLY)?;
    match answer.kind {
        reply::ACK => Ok(true),
        reply::TLS_REQUIRED | reply::POLICY | reply::SHUTDOWN => Err(refused("structured replies", &answer)),
        kind if kind & reply::IS_ERROR != 0 => Ok(false),
        _ => Err(unexpected(&answer)),
    }
}

/// Says that negotiation ends here.
pub(super) fn abort(stream: &mut impl Write) {
    // The server learns it from the closed connection, too.
    let _told = send(stream, option::ABORT, &[]);
}

/// Names of the metadata contexts that the server has of an export under a namespace, at most so many as a message shows.
pub(super) fn list_contexts(
    stream: &mut (impl Read + Write),
    name: &str,
    query: &str,
) -> Result<Vec<String>, NbdError> {
    send(stream, option::LIST_META_CONTEXT, &context_query(name, query))?;
    collect(stream, option::LIST_META_CONTEXT, reply::META_CONTEXT, |mut data| {
        take::<4>(&mut data)?;
        Ok(words(data))
    })
}

fn set_context(stream: &mut (impl Read + Write), name: &str, query: &str) -> Result<Option<u32>, NbdError> {
    send(stream, option::SET_META_CONTEXT, &context_query(name, query))?;
    let mut found = None;
    for _ in 0..NBD_OPTION_REPLIES_MAX {
        let answer = receive(stream, option::SET_META_CONTEXT)?;
        match answer.kind {
            reply::ACK => return Ok(found),
            reply::META_CONTEXT => {
                let mut data = answer.data.as_slice();
                let id = u32::from_be_bytes(take(&mut data)?);
                if data == query.as_bytes() {
                    found = Some(id);
                }
            }
            // Of an export that is not there the next option tells more.
            kind if kind & reply::IS_ERROR != 0 => return Ok(None),
            _ => return Err(unexpected(&answer)),
        }
    }
    Err(endless())
}

fn context_query(name: &str, query: &str) -> Vec<u8> {
    let mut data = Vec::new();
    push_text(&mut data, name);
    data.extend(1_u32.to_be_bytes());
    push_text(&mut data, query);
    data
}

fn go(stream: &mut (impl Read + Write), name: &str) -> Result<Export, NbdError> {
    let mut data = Vec::new();
    push_text(&mut data, name);
    data.extend(1_u16.to_be_bytes());
    data.extend(info::BLOCK_SIZE.to_be_bytes());
    send(stream, option::GO, &data)?;
    let (mut size, mut blocks) = (None, None);
    for _ in 0..NBD_OPTION_REPLIES_MAX {
        let answer = receive(stream, option::GO)?;
        match answer.kind {
            reply::INFO => {
                let mut data = answer.data.as_slice();
                match u16::from_be_bytes(take(&mut data)?) {
                    info::EXPORT => {
                        let length = u64::from_be_bytes(take(&mut data)?);
                        size = Some((length, u16::from_be_bytes(take(&mut data)?)));
                    }
                    info::BLOCK_SIZE => {
                        let mut next = || Ok::<_, NbdError>(u32::from_be_bytes(take(&mut data)?));
                        blocks = Some((next()?, next()?, next()?));
                    }
                    _ => {}
                }
            }
            reply::ACK => {
                let (length, flags) =
                    size.ok_or_else(|| NbdError::broken("the server told no size of the export"))?;
                return export(length, flags, blocks);
            }
            reply::UNKNOWN => return Err(no_export(stream, name)),
            reply::UNSUPPORTED => {
                return Err(NbdError::Unsupported(
                    "the server is too old: it does not know NBD_OPT_GO".into(),
                ));
            }
            _ => return Err(refused("the export", &answer)),
        }
    }
    Err(endless())
}

/// Checks what was said of an export; `blocks` are the smallest, preferred and largest block.
fn export(length_bytes: u64, flags: u16, blocks: Option<(u32, u32, u32)>) -> Result<Export, NbdError> {
    if length_bytes > DISK_MAX_BYTES {
        return Err(NbdError::Unsupported(format!("a disk of {length_bytes} bytes is larger than 64 TiB")));
    }
    let (min, preferred, max) = blocks.unwrap_or((1, NBD_REQUEST_BYTES, NBD_REQUEST_MAX_BYTES));
    let wrong =
        || NbdError::broken(format!("blocks of {min}, {preferred} and {max} bytes do not fit together"));
    if !min.is_power_of_two() || max < min {
        return Err(wrong());
    }
    if min > NBD_MIN_BLOCK_MAX_BYTES {
        let limit =
            format!("the server's smallest block of {min} bytes is larger than {NBD_MIN_BLOCK_MAX_BYTES}");
        return Err(NbdError::Unsupported(limit));
    }
    if !length_bytes.is_multiple_of(min.into()) {
        return Err(NbdError::broken(format!(
            "{length_bytes} bytes are no multiple of the smallest block, {min}"
        )));
    }
    let request = preferred.clamp(NBD_REQUEST_BYTES, NBD_REQUEST_MAX_BYTES).min(max);
    let request_bytes = request - request % min;
    Ok(Export {
        length_bytes,
        flags,
        min_block_bytes: min,
        request_bytes,
        is_structured: false,
        context: None,
    })
}

/// An export that is not there, and those that are.
fn no_export(stream: &mut (impl Read + Write), name: &str) -> NbdError {
    let listed = send(stream, option::LIST, &[]).and_then(|()| {
        collect(stream, option::LIST, reply::SERVER, |mut data| {
            let length = u32::from_be_bytes(take(&mut data)?) as usize;
            let name = data.get(..length).ok_or_else(|| NbdError::broken("an export's name is cut off"))?;
            Ok(format!("'{}'", words(name)))
        })
    });
    let known = match listed {
        Ok(names) if !names.is_empty() => format!("it has {}", names.join(", ")),
        _ => "it does not list what it has".into(),
    };
    NbdError::NoExport(format!("the server has no export '{name}'; {known}"))
}

/// Collects replies of one kind until the option is acknowledged; keeps the first ones.
fn collect(
    stream: &mut (impl Read + Write),
    option: u32,
    kind: u32,
    read: impl Fn(&[u8]) -> Result<String, NbdError>,
) -> Result<Vec<String>, NbdError> {
    let mut found = Vec::new();
    for _ in 0..NBD_OPTION_REPLIES_MAX {
        let answer = receive(stream, option)?;
        match answer.kind {
            reply::ACK => return Ok(found),
            found_kind if found_kind == kind => {
                let text = read(&answer.data)?;
                if found.len() < NBD_LISTED_MAX {
                    found.push(text);
                }
            }
            _ => return Err(refused("a list", &answer)),
        }
    }
    Err(endless())
}

fn push_text(data: &mut Vec<u8>, text: &str) {
    data.extend((text.len() as u32).to_be_bytes());
    data.extend(text.as_bytes());
}

fn send(stream: &mut impl Write, option: u32, data: &[u8]) -> Result<(), NbdError> {
    let mut bytes = Vec::with_capacity(16 + data.len());
    bytes.extend(wire::OPTION.to_be_bytes());
    bytes.extend(option.to_be_bytes());
    bytes.extend((data.len() as u32).to_be_bytes());
    bytes.extend(data);
    stream.write_all(&bytes)?;
    Ok(stream.flush()?)
}

fn receive(stream: &mut impl Read, option: u32) -> Result<Reply, NbdError> {
    if u64::from_be_bytes(read_array(stream)?) != wire::OPTION_REPLY {
        return Err(NbdError::broken("a reply to an option begins wrong"));
    }
    let of = u32::from_be_bytes(read_array(stream)?);
    if of != option {
        return Err(NbdError::broken(format!("a reply to option {of} came instead of one to {option}")));
    }
    let kind = u32::from_be_bytes(read_array(stream)?);
    let length = u32::from_be_bytes(read_array(stream)?);
    Ok(Reply { kind, data: read_bounded(stream, length as usize, NBD_OPTION_REPLY_MAX_BYTES)? })
}

fn unexpected(answer: &Reply) -> NbdError {
    NbdError::broken(format!("a reply of the kind {:#x} has no place here", answer.kind))
}

fn endless() -> NbdError {
    NbdError::broken(format!("more than {NBD_OPTION_REPLIES_MAX} replies to one option"))
}

fn refused(what: &str, answer: &Reply) -> NbdError {
    let said = words(&answer.data);
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    match answer.kind {
        reply::TLS_REQUIRED => NbdError::Denied(format!("it wants TLS (nbds://){said}")),
        reply::POLICY => NbdError::Denied(format!("{what} is forbidden{said}")),
        reply::SHUTDOWN => NbdError::Lost(std::io::Error::new(
            std::io::ErrorKind::ConnectionAborted,
            "the server is shutting down",
        )),
        kind if kind & reply::IS_ERROR != 0 => NbdError::Unsupported(format!(
            "the server refuses {what} (error {}){said}",
            kind & !reply::IS_ERROR
        )),
        _ => unexpected(answer),
    }
}
