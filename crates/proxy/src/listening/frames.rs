//! Follows the frames that a visitor sends over HTTP/2 (RFC 9113 §4.1), only far enough to tell
//! whether one of them stands unfinished. Reads no payload, so it cannot be fooled by one.

/// Where the visitor's bytes stand. Feed it every byte, from the connection preface on.
#[derive(Debug)]
pub(crate) struct Frames {
    /// Of the connection preface, what has not come yet.
    preface_left: usize,
    /// The frame header as far as it came.
    header: [u8; HEADER_BYTES],
    header_bytes: usize,
    /// Of the payload, what has not come yet.
    payload_left: usize,
    /// A list of headers has begun, and the frame that ends it has not.
    in_header_block: bool,
    /// Frames that came to their end.
    complete: u64,
}

impl Frames {
    pub(crate) fn new() -> Self {
        Self {
            preface_left: PREFACE.len(),
            header: [0; HEADER_BYTES],
            header_bytes: 0,
            payload_left: 0,
            in_header_block: false,
            complete: 0,
        }
    }

    /// Takes the bytes that came next.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        let preface = bytes.len().min(self.preface_left);
        self.preface_left -= preface;
        bytes = &bytes[preface..];
        while !bytes.is_empty() {
            if self.header_bytes < HEADER_BYTES {
                let taken = bytes.len().min(HEADER_BYTES - self.header_bytes);
                self.header[self.header_bytes..][..taken].copy_from_slice(&bytes[..taken]);
                self.header_bytes += taken;
                bytes = &bytes[taken..];
                if self.header_bytes == HEADER_BYTES {
                    let [high, middle, low, ..] = self.header;
                    self.payload_left =
                        usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                }
            } else {
                let taken = bytes.len().min(self.payload_left);
                self.payload_left -= taken;
                bytes = &bytes[taken..];
            }
            if self.header_bytes == HEADER_BYTES && self.payload_left == 0 {
                self.end_frame();
            }
        }
    }

    fn end_frame(&mut self) {
        let [_, _, _, kind, flags, ..] = self.header;
        if matches!(kind, HEADERS | PUSH_PROMISE | CONTINUATION) {
            self.in_header_block = flags & END_HEADERS == 0;
        }
        self.header_bytes = 0;
        self.complete += 1;
    }

    /// Whether the visitor owes bytes before anything can be done with those that came: a list of
    /// headers, or a frame. The payload of a DATA frame is a body, and bodies have their own time.
    pub(crate) fn is_unfinished(&self) -> bool {
        let in_data = self.header_bytes == HEADER_BYTES && self.header[3] == DATA;
        self.in_header_block || (self.header_bytes > 0 && !in_data)
    }

    /// Frames that came to their end so far.
    pub(crate) fn complete(&self) -> u64 {
        self.complete
    }
}

/// How an HTTP/2 connection begins (RFC 9113 §3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADER_BYTES: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &[0, 0, 0, 1], payload].concat()
    }

    fn after(bytes: &[u8]) -> Frames {
        let mut frames = Frames::new();
        frames.feed(PREFACE);
        frames.feed(bytes);
        frames
    }

    #[test]
    fn only_what_the_visitor_owes_counts_as_unfinished() {
        let check = |bytes: &[u8], expected: bool| {
            assert_eq!(after(bytes).is_unfinished(), expected, "{bytes:?}");
        };
        let headers = frame(HEADERS, END_HEADERS, b"abc");
        check(b"", false);
        check(&headers, false);
        for end in 1..headers.len() {
            check(&headers[..end], true);
        }
        check(&frame(HEADERS, 0, b"abc"), true);
        check(&[frame(HEADERS, 0, b"abc"), frame(CONTINUATION, 0, b"d")].concat(), true);
        check(&[frame(HEADERS, 0, b""), frame(CONTINUATION, END_HEADERS, b"d")].concat(), false);
        let data = frame(DATA, 0, b"abcdef");
        check(&data[..5], true);
        check(&data[..11], false);
        check(&frame(4, 0, b""), false);
        check(&frame(6, 0, b"12345678")[..12], true);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_the_bytes_are_cut(
            lengths in prop::collection::vec((0_u8..12, any::<u8>(), 0_usize..40), 0..12),
            cut in 1_usize..17,
        ) {
            let bytes: Vec<u8> = lengths
                .iter()
                .flat_map(|(kind, flags, length)| frame(*kind, *flags, &vec![0; *length]))
                .collect();
            let whole = after(&bytes);
            let mut pieces = Frames::new();
            [PREFACE, &bytes].concat().chunks(cut).for_each(|piece| pieces.feed(piece));
            prop_assert_eq!(pieces.complete(), lengths.len() as u64);
            prop_assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
        }
    }
}
