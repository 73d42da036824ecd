//! A write in parts, cut again where it crosses from one place of a file to another.
//!
//! **Invariant**: what is taken, in order, is what was given; no byte is copied.

/// Walks a list of parts, cutting where extents end.
pub(super) struct Parts<'a> {
    parts: &'a [&'a [u8]],
    /// Bytes of the first part that are taken already.
    within: usize,
}

impl<'a> Parts<'a> {
    /// All parts, nothing taken yet.
    pub(super) const fn new(parts: &'a [&'a [u8]]) -> Self {
        Self { parts, within: 0 }
    }

    /// The next `length` bytes, which the caller knows to be there.
    pub(super) fn take(&mut self, length: usize) -> Vec<&'a [u8]> {
        let mut taken = Vec::new();
        let mut missing = length;
        while let Some((first, behind)) = self.parts.split_first() {
            let rest = &first[self.within..];
            if rest.len() > missing {
                taken.push(&rest[..missing]);
                self.within += missing;
                break;
            }
            taken.push(rest);
            missing -= rest.len();
            (self.parts, self.within) = (behind, 0);
        }
        taken
    }
}
