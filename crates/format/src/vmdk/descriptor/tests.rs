//! Properties of descriptors, and what ESXi, hosted products and qemu write.

use super::*;
use failback_model::ByteRange;
use proptest::prelude::*;

const ESXI_V1: &str = "# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID=fffffffe\nparentCID=ffffffff\n\
    createType=\"vmfs\"\n\n# Extent description\nRW 83886080 VMFS \"web-flat.vmdk\"\n\n# The Disk Data Base \n#DDB\n\n\
    ddb.adapterType = \"lsilogic\"\nddb.geometry.cylinders = \"5221\"\nddb.geometry.heads = \"255\"\n\
    ddb.geometry.sectors = \"63\"\nddb.longContentID = \"0123456789abcdef01234567fffffffe\"\n\
    ddb.uuid = \"60 00 C2 9b 1f 0a 77 34-5c 02 9e 8d 10 44 ab f3\"\nddb.virtualHWVersion = \"13\"\n";

fn parse(text: &str) -> Descriptor {
    Descriptor::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn every_value_of_an_esxi_descriptor_is_read() {
    let text = ESXI_V1
        .replace("version=1", "version=3")
        .replace("#DDB", "#DDB\n# Change Tracking File\nchangeTrackPath=\"web-ctk.vmdk\"");
    let disk = parse(&text);
    assert_eq!((disk.version(), disk.content_id(), disk.parent_content_id()), (3, NEVER_WRITTEN, None));
    assert_eq!(disk.create_type(), &CreateType::Vmfs);
    assert_eq!(disk.change_track_path(), Some(b"web-ctk.vmdk".as_slice()));
    assert_eq!(disk.length_bytes(), 40 << 30);
    assert_eq!(disk.adapter_type().as_deref(), Some("lsilogic"));
    assert_eq!(disk.ddb("VIRTUALHWVERSION"), Some(b"13".as_slice()));
    assert!(!disk.is_thin() && !disk.has_parent());
    let [extent] = disk.extents() else { panic!("one extent") };
    assert_eq!(extent.kind, ExtentKind::Flat { offset_bytes: 0, vmfs: true });
    assert_eq!((extent.access, extent.name_form()), (ExtentAccess::ReadWrite, NameForm::Beside));
}

#[test]
fn hosted_extents_follow_one_another() {
    let text = "# Disk DescriptorFile\r\nversion=1\r\nCID=7A\r\nparentCID=ffffffff\r\ncreateType=\"twoGbMaxExtentSparse\"\r\n\
        RW 4192256 SPARSE \"a-s001.vmdk\"\r\nrdonly  8\tZERO\r\nRW 100 FLAT \"a b=c#.vmdk\" 63\r\n";
    let disk = parse(text);
    let places: Vec<_> = disk.extents().iter().map(|extent| extent.disk).collect();
    let (first, second) = (4_192_256 * 512, (4_192_256 + 8) * 512);
    assert_eq!(
        places,
        [ByteRange::new(0, first), ByteRange::new(first, second), ByteRange::new(second, second + 51_200)]
    );
    assert_eq!(disk.extents()[2].name, b"a b=c#.vmdk");
    assert_eq!(disk.extents()[2].file_range(), Some(ByteRange::new(63 * 512, 163 * 512)));
    assert_eq!(disk.content_id(), 0x7a);
}

#[test]
fn an_empty_extent_does_not_hide_an_overlap() {
    let text = "# Disk DescriptorFile\nversion=1\nCID=1\ncreateType=\"monolithicFlat\"\n\
        RW 10 FLAT \"a\" 0\nRW 0 FLAT \"a\" 5\nRW 2 FLAT \"a\" 6\n";
    let error = Descriptor::parse(text.as_bytes()).expect_err("overlap");
    assert_eq!(error, DescriptorError::Overlap { first: 0, second: 2, name: "a".into() });
}

#[test]
fn a_short_id_gets_eight_digits_and_an_embedded_descriptor_keeps_its_room() {
    let text = ESXI_V1.replace("CID=fffffffe", "CID=7a");
    let mut room = text.clone().into_bytes();
    room.resize(text.len() + 6, 0);
    let edited =
        Descriptor::parse(&room).and_then(|disk| disk.with_content_id_in_place(0xabcd)).expect("fits");
    assert_eq!(edited.bytes().len(), room.len());
    assert!(edited.bytes().starts_with(
        text.replace("CID=7a", "CID=0000abcd").split("ddb.long").next().unwrap_or("").as_bytes()
    ));
    room.pop();
    let refused = Descriptor::parse(&room).and_then(|disk| disk.with_content_id_in_place(0xabcd));
    assert_eq!(refused, Err(DescriptorError::NoRoom { needed: text.len() + 6, room: text.len() + 5 }));
}

#[test]
fn a_long_id_that_is_none_is_left_alone() {
    for value in ["", "abc", "not hexadecimal at all"] {
        let text = ESXI_V1.replace("0123456789abcdef01234567fffffffe", value);
        let edited = parse(&text).with_content_id(0x1234_5678).expect("edited");
        assert_eq!(edited.bytes(), text.replace("CID=fffffffe", "CID=12345678").as_bytes());
    }
}

#[test]
fn growing_edits_sectors_and_cylinders_and_adds_lines_in_the_files_own_style() {
    let crlf = ESXI_V1.replace('\n', "\r\n");
    let added = NewExtent {
        length_bytes: 512,
        kind: ExtentKind::Flat { offset_bytes: 0, vmfs: false },
        name: "web-f002.vmdk".into(),
    };
    let grown = parse(&crlf).grown(80 << 30, &[added]).expect("grown");
    let expected = crlf
        .replace(
            "RW 83886080 VMFS \"web-flat.vmdk\"\r\n",
            "RW 167772160 VMFS \"web-flat.vmdk\"\r\nRW 1 FLAT \"web-f002.vmdk\" 0\r\n",
        )
        .replace("\"5221\"", "\"10443\"");
    assert_eq!(String::from_utf8_lossy(grown.bytes()), expected);
    // Cylinders that never described the length are somebody else's.
    let odd = ESXI_V1.replace("\"5221\"", "\"16383\"");
    let grown = parse(&odd).grown(80 << 30, &[]).expect("grown");
    assert_eq!(grown.bytes(), odd.replace("RW 83886080", "RW 167772160").as_bytes());
}

#[test]
fn geometry_is_what_esxi_and_qemu_expect() {
    let of = |adapter, length_bytes| {
        let chs = ChsGeometry::of(adapter, length_bytes);
        (chs.cylinders, chs.heads, chs.sectors)
    };
    assert_eq!(of(AdapterType::LsiLogic, 512 << 20), (512, 64, 32));
    assert_eq!(of(AdapterType::LsiLogic, 1 << 30), (1024, 64, 32));
    assert_eq!(of(AdapterType::LsiLogic, (1 << 30) + 512), (512, 128, 32));
    assert_eq!(of(AdapterType::LsiLogic, (2 << 30) + 512), (261, 255, 63));
    assert_eq!(of(AdapterType::BusLogic, 2 << 30), (1024, 128, 32));
    assert_eq!(of(AdapterType::LsiLogic, 40 << 30), (5221, 255, 63));
    assert_eq!(of(AdapterType::LsiLogic, 64 << 40), (8_555_179, 255, 63));
    assert_eq!(of(AdapterType::Ide, 3 << 30), (6241, 16, 63));
    assert_eq!(of(AdapterType::Ide, 40 << 30), (16_383, 16, 63));
    assert_eq!(of(AdapterType::Ide, 0), (0, 16, 63));
    assert_eq!(AdapterType::from_word("pvscsi").map(AdapterType::as_str), Some("lsilogic"));
}

#[test]
fn a_uuid_is_written_as_esxi_does() {
    let given = *b"\x60\x00\xc2\x9b\x1f\x0a\x77\x34\x5c\x02\x9e\x8d\x10\x44\xab\xf3";
    assert_eq!(uuid_text(given), "60 00 C2 9b 1f 0a 77 34-5c 02 9e 8d 10 44 ab f3");
    assert_eq!(uuid_text([0xab; 16]), "ab ab ab ab ab ab ab ab-ab ab ab ab ab ab ab ab");
}

#[test]
fn a_new_descriptor_is_pinned() {
    let new = NewDescriptor {
        content_id: 0x1f2e_3d4c,
        long_content_id: *b"\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67",
        create_type: CreateType::Vmfs,
        extents: vec![NewExtent {
            length_bytes: 40 << 30,
            kind: ExtentKind::Flat { offset_bytes: 0, vmfs: true },
            name: "web-flat.vmdk".into(),
        }],
        adapter: AdapterType::LsiLogic,
        uuid: esxi_uuid(*b"\xff\xff\xff\xfb\x1f\x0a\x77\x34\x5c\x02\x9e\x8d\x10\x44\xab\xf3"),
        thin: true,
    };
    let expected = ESXI_V1
        .replace("CID=fffffffe", "CID=1f2e3d4c")
        .replace("01234567fffffffe", "012345671f2e3d4c")
        .replace("# The Disk Data Base \n", "# The Disk Data Base\n")
        .replace("ddb.uuid", "ddb.thinProvisioned = \"1\"\nddb.toolsVersion = \"2147483647\"\nddb.uuid")
        .replace("\"13\"", "\"8\"");
    assert_eq!(new.to_text(), expected);
    assert!(parse(&expected).is_thin());
}

/// Lines that a foreign descriptor may hold and nobody here understands.
fn noise() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        "#[ -~]{0,40}",
        "[ \t]{0,3}",
        "vendor\\.[a-z]{1,8}[ ]{0,2}=[ ]{0,2}\"[ !#-~]{0,30}\"",
        "ddb\\.x[a-z]{1,8} = \"[ !#-~]{0,30}\"",
        "encoding=\"(UTF-8|windows-1252|GBK)\"",
    ]
}

/// A descriptor with everything that varies between writers, its content id and long one in it.
fn foreign() -> impl Strategy<Value = (String, u32)> {
    let ends = prop_oneof![Just("\n"), Just("\r\n")];
    let ids = (any::<u32>(), proptest::option::of("[0-9a-f]{24}"), any::<bool>());
    let lines = proptest::collection::vec(noise(), 8);
    (ends, ids, lines, 0..40_usize, 1..1_u64 << 40, any::<bool>()).prop_map(
        |(end, (id, long, upper), noise, padding, sectors, offset)| {
            let id_text = if upper { format!("{id:X}") } else { format!("{id:08x}") };
            let mut lines = vec![
                "# Disk DescriptorFile".to_owned(),
                noise[0].clone(),
                "version=2".into(),
                noise[1].clone(),
                format!("CID = {id_text}"),
                noise[2].clone(),
                "parentCID=ffffffff".into(),
                noise[3].clone(),
                "createType=\"vmfs\"".into(),
                format!("RW {sectors} VMFS \"x-flat.vmdk\"{}", if offset { " 0" } else { "" }),
                noise[4].clone(),
            ];
            lines.extend(long.map(|long| format!("ddb.longContentID = \"{long}{id:08x}\"")));
            lines.push(noise[5].clone());
            (lines.join(end) + end + &"\0".repeat(padding), id)
        },
    )
}

proptest! {
    #[test]
    fn an_edit_changes_the_ids_and_no_other_byte((text, old) in foreign(), id in any::<u32>()) {
        let disk = Descriptor::parse(text.as_bytes()).expect("a descriptor");
        prop_assert_eq!(disk.content_id(), old);
        prop_assert_eq!(disk.bytes(), text.as_bytes());
        let edited = disk.with_content_id(id).expect("edited");
        prop_assert_eq!(edited.content_id(), id);
        // Masking both ids out of both texts leaves the same bytes.
        let mask = |disk: &Descriptor| {
            let mut bytes = disk.bytes().to_vec();
            if let Some(at) = disk.ddb_at("longContentID") {
                bytes.splice(at.end - 8..at.end, *b"--------");
            }
            bytes.splice(disk.content_id_at.clone(), *b"--------");
            bytes
        };
        prop_assert_eq!(mask(&disk), mask(&edited));
        if let Some(long) = edited.ddb("longContentID") {
            let digits = format!("{id:08x}");
            prop_assert!(long.ends_with(digits.as_bytes()));
        }
        prop_assert_eq!(edited.with_content_id(old).expect("edited").content_id(), old);
        prop_assert_eq!(edited.extents()[0].disk, disk.extents()[0].disk);
    }

    #[test]
    fn any_bytes_give_a_descriptor_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let mut text = b"# Disk DescriptorFile\nversion=1\nCID=1\ncreateType=\"vmfs\"\n".to_vec();
        text.extend(&bytes);
        if let Ok(disk) = Descriptor::parse(&text) {
            prop_assert_eq!(disk.bytes(), text.as_slice());
            let _edited = disk.with_content_id(7);
            let _grown = disk.grown(u64::MAX, &[]);
        }
        let _any = Descriptor::parse(&bytes);
    }

    #[test]
    fn a_damaged_descriptor_is_read_or_refused_and_its_edits_stay_descriptors(
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = ESXI_V1.as_bytes().to_vec();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(disk) = Descriptor::parse(&bytes) {
            let edited = disk.with_content_id(0x1234_5678).expect("an edit of a sound descriptor");
            prop_assert_eq!(edited.extents().len(), disk.extents().len());
            prop_assert_eq!(edited.content_id(), 0x1234_5678);
        }
    }

    #[test]
    fn any_extent_line_is_within_a_disk_or_an_error(
        sectors in prop_oneof![any::<u64>(), (u64::MAX / 512 - 4..u64::MAX / 512 + 4), 0..9_u64],
        offset in prop_oneof![any::<u64>(), (u64::MAX / 512 - 4..u64::MAX / 512 + 4), 0..9_u64],
        kind in prop_oneof![Just("FLAT"), Just("VMFS"), Just("SPARSE"), Just("ZERO")],
    ) {
        let text = format!(
            "# Disk DescriptorFile\nversion=1\nCID=1\ncreateType=\"vmfs\"\nRW 8 ZERO\nRW {sectors} {kind} \"a\" {offset}\n"
        );
        if let Ok(disk) = Descriptor::parse(text.as_bytes()) {
            prop_assert_eq!(u128::from(disk.length_bytes()), (u128::from(sectors) + 8) * 512);
        }
    }
}
