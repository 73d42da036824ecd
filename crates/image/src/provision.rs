//! Taking the space that a flat file shall have.
//!
//! A terabyte takes a while to write, and whoever asked for it may change their mind. Space is therefore taken in steps,
//! between which the caller is asked whether to go on.
//!
//! **Invariant**: thick is reserved, zeroed by the file system when it is first written; eager is zeros that were
//! written, as VMware's eager zeroed thick is. Either way the bytes read as zero and the file has its length.

use crate::Provisioning;
use failback_blockio::{Device, DiskError, Operation, Zeroing};
use failback_model::limits::PROVISION_STEP_BYTES;
use failback_model::{ByteRange, Code};

/// Zeros written at once.
const ZEROS: &[u8] = &[0; 1 << 20];

/// Whether the caller wants no more of it.
pub(crate) type IsCancelled<'a> = &'a dyn Fn() -> bool;

/// Takes the space that a range of holes shall have.
pub(crate) fn provision(
    device: &dyn Device,
    range: ByteRange,
    provisioning: Provisioning,
    is_cancelled: IsCancelled<'_>,
) -> Result<(), DiskError> {
    if provisioning == Provisioning::Thin {
        return Ok(());
    }
    // Reserved first also where it is then written: that there is too little space shows before the long part.
    let is_reserved = in_steps(device, range, is_cancelled, |step| device.reserve(step))?;
    if is_reserved && provisioning == Provisioning::Thick {
        return Ok(());
    }
    in_steps(device, range, is_cancelled, |step| {
        write_zeros(device, step)?;
        device.start_writeback(step);
        Ok(true)
    })
    .map(|_| ())
}

/// Calls `take` for each step until it says that it cannot.
fn in_steps(
    device: &dyn Device,
    range: ByteRange,
    is_cancelled: IsCancelled<'_>,
    mut take: impl FnMut(ByteRange) -> Result<bool, DiskError>,
) -> Result<bool, DiskError> {
    let mut at = range.start();
    while at < range.end() {
        if is_cancelled() {
            let reason = "stopped on request";
            return Err(DiskError::new(Code::Cancelled, Operation::Create, device.path(), reason));
        }
        let end = range.end().min(at + PROVISION_STEP_BYTES);
        if !take(ByteRange::new(at, end))? {
            return Ok(false);
        }
        at = end;
    }
    Ok(true)
}

fn write_zeros(device: &dyn Device, range: ByteRange) -> Result<(), DiskError> {
    let mut at = range.start();
    while at < range.end() {
        let count = (range.end() - at).min(ZEROS.len() as u64);
        device.write_at(at, &ZEROS[..count as usize])?;
        at += count;
    }
    Ok(())
}

/// How a flat file takes space: one whose allocation does not reach its length is thin.
///
/// Zeros that were reserved but never written cannot be told from zeros that were, so eager is reported as thick.
pub(crate) fn provisioning_of(device: &dyn Device, length_bytes: u64) -> Result<Provisioning, DiskError> {
    let is_full = length_bytes > 0 && device.allocated_bytes()? >= length_bytes;
    Ok(if is_full { Provisioning::Thick } else { Provisioning::Thin })
}

/// Zeroes bytes of a flat file and keeps its provisioning: holes of a thin file stay holes, space of a thick one stays
/// taken.
pub(crate) fn zero_flat(
    device: &dyn Device,
    range: ByteRange,
    zeroing: Zeroing,
    provisioning: Provisioning,
) -> Result<(), DiskError> {
    if provisioning != Provisioning::Thin {
        return device.zero(range, Zeroing::KeepAllocation);
    }
    if zeroing == Zeroing::Punch {
        return device.zero(range, Zeroing::Punch);
    }
    let mut at = range.start();
    while let Some(data) = device.next_data(at)?.and_then(|data| data.intersection(range)) {
        device.zero(data, Zeroing::KeepAllocation)?;
        at = data.end();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use failback_testkit::{Call, Damage, Fault, Faulty, MemoryDevice, When};
    use std::cell::Cell;

    const LENGTH: u64 = 3 * PROVISION_STEP_BYTES + 1000;

    fn provisioned(provisioning: Provisioning, steps: u32) -> (Result<(), DiskError>, u64, u32) {
        let device = MemoryDevice::new(LENGTH);
        let asked = Cell::new(0);
        let is_cancelled = || {
            asked.set(asked.get() + 1);
            asked.get() > steps
        };
        let done = provision(&device, ByteRange::new(0, LENGTH), provisioning, &is_cancelled);
        (done, device.allocated_bytes().expect("known"), asked.get())
    }

    #[test]
    fn space_is_taken_in_steps_that_can_be_stopped() {
        // Memory reserves nothing, so thick is written as eager is: one refused step, then four.
        for provisioning in [Provisioning::Thick, Provisioning::Eager] {
            let (done, taken_bytes, asked) = provisioned(provisioning, u32::MAX);
            done.expect("nobody stops it");
            assert!(taken_bytes >= LENGTH && asked == 5, "{taken_bytes} bytes in {asked} steps");
            let (done, taken_bytes, _) = provisioned(provisioning, 3);
            assert_eq!(done.unwrap_err().code, Code::Cancelled);
            assert_eq!(taken_bytes, 2 * PROVISION_STEP_BYTES);
        }
        let (done, taken_bytes, asked) = provisioned(Provisioning::Thin, 0);
        done.expect("thin takes nothing");
        assert_eq!((taken_bytes, asked), (0, 0));
    }

    #[test]
    fn a_full_medium_ends_it() {
        let fault = Fault { call: Call::Write, when: When::Nth(70), damage: Damage::NoSpace };
        let device = Faulty::new(MemoryDevice::new(LENGTH), [fault]);
        let all = ByteRange::new(0, LENGTH);
        let error = provision(&device, all, Provisioning::Eager, &|| false).unwrap_err();
        assert_eq!(error.code, Code::NoSpace);
    }
}
