//! Whether a pass that failed is tried again by itself.
//!
//! What the network, a medium or the other end may mend is tried for ever. What would do harm or fail in the same way
//! each time waits for an operator.

use failback_model::{Code, ExitClass};

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Try again, later each time.
    Again,
    /// Wait for an operator.
    GiveUp,
}

/// The verdict on a code.
pub(crate) fn verdict(code: Code) -> Verdict {
    match code {
        // A newer session of the same disk took over: two that fight for one disk are worse than one that waits.
        Code::StaleSession => Verdict::GiveUp,
        // The other end's operator can mend these while we wait.
        Code::VersionMismatch
        | Code::IdentityNotAllowed
        | Code::UnknownDisk
        | Code::ProductVersionOrder
        | Code::ClocksDiffer
        | Code::TlsFailed
        | Code::UndoSpace
        | Code::InUse
        | Code::JournalInUse
        | Code::OpenFailed => Verdict::Again,
        code if code.exit() == ExitClass::Interrupted => Verdict::Again,
        _ => Verdict::GiveUp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_heal_is_tried_again_and_what_does_harm_is_not() {
        for code in [
            Code::ConnectionLost,
            Code::MachineStopped,
            Code::ReadFailed,
            Code::PeerFailed,
            Code::TlsFailed,
            Code::UndoSpace,
        ] {
            assert_eq!(verdict(code), Verdict::Again, "{}", code.as_str());
        }
        for code in
            [Code::WrongDisk, Code::SourceOlder, Code::RootMismatch, Code::StaleSession, Code::Internal]
        {
            assert_eq!(verdict(code), Verdict::GiveUp, "{}", code.as_str());
        }
    }
}
