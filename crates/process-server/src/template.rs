//! Names that change from cycle to cycle: `{cycle}` and `{base}` in a source and its feed.

/// What stands for the places in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Template {
    /// For `{cycle}`: the cycle whose state is read.
    pub(crate) cycle: u64,
    /// For `{base}`: the cycle that the target sealed last; none: empty.
    pub(crate) base: Option<u64>,
}

impl Template {
    /// The text with its places filled.
    pub(crate) fn expand(self, text: &str) -> String {
        let base = self.base.map(|base| base.to_string()).unwrap_or_default();
        text.replace("{cycle}", &self.cycle.to_string()).replace("{base}", &base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled_and_all_else_stays() {
        let template = Template { cycle: 8, base: Some(6) };
        assert_eq!(template.expand("nbd+unix:///pit{cycle}?socket=/x"), "nbd+unix:///pit8?socket=/x");
        assert_eq!(template.expand("bitmap:since{base}-{x}"), "bitmap:since6-{x}");
        assert_eq!(Template { cycle: 1, base: None }.expand("b{base}"), "b");
    }
}
