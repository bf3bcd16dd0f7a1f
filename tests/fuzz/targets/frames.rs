//! HTTP/2 frames of visitors: however the bytes are cut, they are counted alike, and as a reader
//! of the whole would count them. The first byte says how long the pieces are.

#![no_main]

#[path = "../../../crates/proxy/src/listening/frames.rs"]
mod frames;

use frames::{Frames, PREFACE};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((length, bytes)) = data.split_first() else { return };
    let mut whole = Frames::new();
    whole.feed(bytes);
    let mut pieces = Frames::new();
    bytes.chunks(usize::from(*length).max(1)).for_each(|piece| pieces.feed(piece));
    let told = (whole.complete(), whole.is_unfinished());
    assert_eq!((pieces.complete(), pieces.is_unfinished()), told);
    assert_eq!(told, read(bytes.get(PREFACE.len()..).unwrap_or_default()));
});

/// RFC 9113 §4.1 over all the bytes at once: how many frames are whole, and whether the visitor
/// owes something else than a body.
fn read(mut bytes: &[u8]) -> (u64, bool) {
    let (mut complete, mut in_headers) = (0, false);
    while let [high, middle, low, kind, flags, _, _, _, _, rest @ ..] = bytes {
        let length = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
        let Some(behind) = rest.get(length..) else { return (complete, in_headers || *kind != 0) };
        if [1, 5, 9].contains(kind) {
            in_headers = flags & 4 == 0;
        }
        complete += 1;
        bytes = behind;
    }
    // A header that is itself cut may be that of a body; nobody can tell yet.
    (complete, in_headers || !bytes.is_empty())
}
