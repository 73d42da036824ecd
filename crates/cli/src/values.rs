//! Values of options as types: words, levels and counts, each refused by name where it is wrong.

use clap::builder::{PossibleValue, PossibleValuesParser, RangedU64ValueParser, TypedValueParser};
use failback_image::{AdapterType, DiskUuid, NoDiskUuid, Provisioning, VmdkType};
use failback_model::limits::THREADS_MAX;
use failback_pass::{Compression, Refinement};

/// Kinds of VMDK that can be created, by the names that VMware gives them.
pub(crate) fn vmdk_type() -> impl TypedValueParser<Value = VmdkType> {
    let help = |kind: VmdkType| match kind {
        VmdkType::Vmfs => "descriptor and -flat file, as ESXi keeps a disk",
        VmdkType::MonolithicFlat => "descriptor and one flat file, for hosted products",
        VmdkType::TwoGbMaxExtentFlat => "descriptor and flat files of 2 GiB",
        VmdkType::MonolithicSparse => "one sparse file",
        VmdkType::TwoGbMaxExtentSparse => "descriptor and sparse files of 2 GiB",
        VmdkType::StreamOptimized => "one compressed file, written in one go, for import",
    };
    let values = VmdkType::ALL.map(|kind| PossibleValue::new(kind.as_str()).help(help(kind)));
    PossibleValuesParser::new(values).map(|word| {
        let named = |kind: &VmdkType| kind.as_str().eq_ignore_ascii_case(&word);
        VmdkType::ALL.into_iter().find(named).unwrap_or_default()
    })
}

/// Controllers by the words of their own; a descriptor has one word for both of LSI Logic's and VMware's own.
pub(crate) fn adapter_type() -> impl TypedValueParser<Value = AdapterType> {
    PossibleValuesParser::new(["lsilogic", "buslogic", "ide", "pvscsi"])
        .map(|word| AdapterType::from_word(&word).unwrap_or_default())
}

/// The identity of a disk.
pub(crate) fn uuid(text: &str) -> Result<DiskUuid, NoDiskUuid> {
    text.parse()
}

/// Reader threads: 1 to 64.
pub(crate) fn threads() -> impl TypedValueParser<Value = usize> {
    RangedU64ValueParser::<usize>::new().range(1..=THREADS_MAX as u64)
}

/// When blocks are narrowed to pages.
pub(crate) fn refinement() -> impl TypedValueParser<Value = Refinement> {
    PossibleValuesParser::new(["auto", "on", "off"]).map(|word| match word.as_str() {
        "on" => Refinement::On,
        "off" => Refinement::Off,
        _ => Refinement::Auto,
    })
}

/// How an image takes space.
pub(crate) fn provisioning() -> impl TypedValueParser<Value = Provisioning> {
    PossibleValuesParser::new(["thin", "thick", "eager"]).map(|word| match word.as_str() {
        "thick" => Provisioning::Thick,
        "eager" => Provisioning::Eager,
        _ => Provisioning::Thin,
    })
}

/// A word or a zstd level.
pub(crate) fn compression(text: &str) -> Result<Compression, String> {
    match text {
        "auto" => Ok(Compression::Auto),
        "off" => Ok(Compression::Off),
        level => match level.parse() {
            Ok(level @ 1..=22) => Ok(Compression::Level(level)),
            _ => Err("auto, off, or a level from 1 to 22".into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compression_is_a_word_or_a_level() {
        assert_eq!(compression("auto"), Ok(Compression::Auto));
        assert_eq!(compression("19"), Ok(Compression::Level(19)));
        for wrong in ["0", "23", "-3", "fast", ""] {
            assert!(compression(wrong).is_err(), "{wrong}");
        }
    }
}
