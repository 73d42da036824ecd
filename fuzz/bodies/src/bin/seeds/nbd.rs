//! Talks of honest NBD servers, and lists of honest programs.

use super::Seed;

pub(crate) fn seeds() -> Vec<Seed> {
    let list = |name, text: &str| ("extents", name, text.as_bytes().to_vec());
    vec![
        ("nbd", "negotiation", [&[0][..], &negotiation(), &data(1, 1, b"words of a disk!")].concat()),
        ("nbd", "extents", [&[4][..], &negotiation(), &extents()].concat()),
        ("nbd", "data-and-hole", [&[1][..], &pieces()].concat()),
        ("nbd", "simple", [&[3][..], &simple(1, 0), &[7; 8], &simple(3, 0), &[8; 8], &simple(2, 5)].concat()),
        ("nbd", "error", [&[1][..], &chunk(1, 32769, 1, &[0, 0, 0, 5, 0, 2, b'n', b'o'])].concat()),
        list(
            "qemu-img",
            r#"[{"start":0,"length":65536,"depth":0,"present":true,"zero":false,"data":true,"offset":327680},{"start":65536,"length":65536,"depth":1,"present":true,"zero":true,"data":false}]"#,
        ),
        list(
            "rbd",
            r#"[{"offset":0,"length":4096,"exists":"true"},{"offset":8192,"length":4096,"exists":"false"}]"#,
        ),
        list(
            "nbdinfo",
            r#"[{"offset":0,"length":65536,"type":0,"description":"clean"},{"offset":65536,"length":1,"type":1,"description":"dirty"}]"#,
        ),
    ]
}

fn reply(option: u32, kind: u32, data: &[u8]) -> Vec<u8> {
    let head = [&0x0003_e889_0455_65a9_u64.to_be_bytes()[..], &option.to_be_bytes(), &kind.to_be_bytes()];
    [&head.concat()[..], &(data.len() as u32).to_be_bytes(), data].concat()
}

/// An export of 16 bytes in blocks of 1.
fn negotiation() -> Vec<u8> {
    let mut export = vec![0, 0];
    export.extend(16_u64.to_be_bytes());
    export.extend(3_u16.to_be_bytes());
    let mut blocks = vec![0, 3];
    blocks.extend([1_u32, 4096, 1 << 25].iter().flat_map(|size| size.to_be_bytes()));
    [
        b"NBDMAGICIHAVEOPT\0\x03".to_vec(),
        reply(8, 1, b""),
        reply(10, 4, &[&[0, 0, 0, 1][..], b"base:allocation"].concat()),
        reply(10, 1, b""),
        reply(7, 3, &export),
        reply(7, 3, &blocks),
        reply(7, 1, b""),
    ]
    .concat()
}

fn chunk(flags: u16, kind: u16, cookie: u64, data: &[u8]) -> Vec<u8> {
    let head = [&0x668e_33ef_u32.to_be_bytes()[..], &flags.to_be_bytes(), &kind.to_be_bytes()];
    [&head.concat()[..], &cookie.to_be_bytes(), &(data.len() as u32).to_be_bytes(), data].concat()
}

fn data(flags: u16, cookie: u64, bytes: &[u8]) -> Vec<u8> {
    chunk(flags, 1, cookie, &[&((cookie - 1) * 8).to_be_bytes()[..], bytes].concat())
}

/// Three requests of 8 bytes, answered out of order.
fn pieces() -> Vec<u8> {
    let hole = [&8_u64.to_be_bytes()[..], &8_u32.to_be_bytes()].concat();
    [data(0, 3, b"of a dis"), chunk(1, 0, 3, b""), chunk(1, 2, 2, &hole), data(1, 1, b"words...")].concat()
}

fn extents() -> Vec<u8> {
    let words = [1_u32, 8, 0, 8, 3];
    chunk(1, 5, 1, &words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>())
}

fn simple(cookie: u64, error: u32) -> Vec<u8> {
    [&0x6744_6698_u32.to_be_bytes()[..], &error.to_be_bytes(), &cookie.to_be_bytes()].concat()
}
