//! The small values of the file that TOML has no type for: durations, sizes, counts and words.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};
use serde::ser::{Serialize, Serializer};

/// `"90s"`, `"1h30m"`: numbers with a unit behind each, one of `d h m s ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

/// `"64KiB"`: a number of bytes, with one of `B KB KiB MB MiB` behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) usize);

/// A whole number from 0 up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count(pub(crate) usize);

impl Span {
    fn parse(text: &str) -> Option<Self> {
        let mut rest = text.trim();
        let mut total = Duration::ZERO;
        while !rest.is_empty() {
            let (amount, unit, behind) = leading_amount(rest)?;
            let milliseconds = match unit {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return None,
            };
            let part = Duration::from_millis(amount.checked_mul(milliseconds)?);
            total = total.checked_add(part)?;
            rest = behind.trim_start();
        }
        (!text.trim().is_empty() && total <= LONGEST).then_some(Self(total))
    }
}

impl Size {
    fn parse(text: &str) -> Option<Self> {
        let (amount, unit, behind) = leading_amount(text.trim())?;
        let bytes: u64 = match unit {
            "B" => 1,
            "KB" => 1_000,
            "KiB" => 1 << 10,
            "MB" => 1_000_000,
            "MiB" => 1 << 20,
            _ => return None,
        };
        let size = usize::try_from(amount.checked_mul(bytes)?).ok()?;
        behind.is_empty().then_some(Self(size))
    }
}

impl fmt::Display for Span {
    /// With the largest unit of which it holds at least two: `90s`, `15m`, `30d`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_millis();
        let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
        let whole = |unit: u128| milliseconds.is_multiple_of(unit);
        let fits = |(unit, _): &(u128, &str)| whole(*unit) && milliseconds >= 2 * unit;
        let seconds = (1_000, "s");
        match units.into_iter().find(fits).or_else(|| whole(1_000).then_some(seconds)) {
            Some((unit, name)) => write!(f, "{}{name}", milliseconds / unit),
            None => write!(f, "{milliseconds}ms"),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes > 0 && bytes % (1 << 20) == 0 => write!(f, "{}MiB", bytes >> 20),
            bytes if bytes > 0 && bytes % (1 << 10) == 0 => write!(f, "{}KiB", bytes >> 10),
            bytes => write!(f, "{bytes}B"),
        }
    }
}

/// `90s30…` as 90, `s` and `30…`.
fn leading_amount(text: &str) -> Option<(u64, &str, &str)> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit())?;
    let (amount, rest) = text.split_at(digits);
    let rest = rest.trim_start();
    let letters = rest.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(rest.len());
    let (unit, behind) = rest.split_at(letters);
    Some((amount.parse().ok()?, unit, behind))
}

/// A hundred years: what is longer is a slip of the hand, and arithmetic on it might overflow.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

macro_rules! text_scalar {
    ($type:ident, $noun:literal, $expected:literal, $pattern:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expected)
                    }

                    fn visit_str<E: Error>(self, text: &str) -> Result<$type, E> {
                        $type::parse(text)
                            .ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }

        /// For the defaults in the schema.
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                $noun.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "title": $noun, "pattern": $pattern })
            }
        }
    };
}

text_scalar!(
    Span,
    "duration",
    "a duration such as \"90s\", \"15m\" or \"1h30m\" (units: d, h, m, s, ms)",
    r"^\s*([0-9]+\s*(d|h|m|s|ms)\s*)+$"
);
text_scalar!(
    Size,
    "size",
    "a size such as \"64KiB\" (units: B, KB, KiB, MB, MiB)",
    r"^\s*[0-9]+\s*(B|KB|KiB|MB|MiB)\s*$"
);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number, 0 or more")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Count, E> {
                let count = usize::try_from(number);
                count.map(Count).map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Count, E> {
                let count = usize::try_from(number);
                count.map(Count).map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
            }
        }
        deserializer.deserialize_any(Number)
    }
}

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl JsonSchema for Count {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Count".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 0 })
    }
}

/// Declares an enum whose variants the file writes as words. serde's own derive would take numbers
/// for them as well, and `access = 0` must not mean "public".
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name {
            $($variant),+
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Word;
                impl serde::de::Visitor<'_> for Word {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(&$crate::scalar::one_of(&[$($word),+]))
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        match text {
                            $($word => Ok($name::$variant),)+
                            _ => Err(E::unknown_variant(text, &[$($word),+])),
                        }
                    }
                }
                deserializer.deserialize_str(Word)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(match self {
                    $(Self::$variant => $word),+
                })
            }
        }

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "enum": [$($word),+] })
            }
        }
    };
}
pub(crate) use words;

/// Reads an enum that the file writes as a string or as a table.
macro_rules! text_or_table {
    ($type:ident, $expected:literal, $text:expr, $table:expr) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Either;
                impl<'de> serde::de::Visitor<'de> for Either {
                    type Value = $type;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($expected)
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        Ok($text(text))
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(
                        self,
                        map: A,
                    ) -> Result<$type, A::Error> {
                        let table = serde::de::value::MapAccessDeserializer::new(map);
                        serde::Deserialize::deserialize(table).map($table)
                    }
                }
                deserializer.deserialize_any(Either)
            }
        }
    };
}
pub(crate) use text_or_table;

/// `"a", "b" or "c"`.
pub(crate) fn one_of(words: &[&str]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [only] => format!("{only:?}"),
        [first @ .., last] => {
            let first: Vec<String> = first.iter().map(|word| format!("{word:?}")).collect();
            format!("{} or {last:?}", first.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_span(text: &str, milliseconds: Option<u64>) {
        let expected = milliseconds.map(|ms| Span(Duration::from_millis(ms)));
        assert_eq!(Span::parse(text), expected, "{text:?}");
    }

    #[test]
    fn durations_are_numbers_with_units() {
        check_span("90s", Some(90_000));
        check_span("15m", Some(900_000));
        check_span("30d", Some(2_592_000_000));
        check_span("250ms", Some(250));
        check_span("0s", Some(0));
        check_span("1h30m", Some(5_400_000));
        check_span("1h 30m", Some(5_400_000));
        check_span(" 2 h ", Some(7_200_000));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", " ", "90", "s", "1.5h", "-1s", "90 S", "1w", "1h30", "é", "1sé"] {
            check_span(text, None);
        }
        check_span("36501d", None);
        check_span("18446744073709551616s", None);
        check_span("18446744073709551615d", None);
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        for (seconds, text) in
            [(0, "0s"), (5, "5s"), (60, "60s"), (75, "75s"), (120, "2m"), (2_592_000, "30d")]
        {
            let span = Span(Duration::from_secs(seconds));
            assert_eq!((span.to_string().as_str(), Span::parse(text)), (text, Some(span)));
        }
        assert_eq!(Span(Duration::from_millis(1_250)).to_string(), "1250ms");
        for text in ["64KiB", "2MiB", "1025B", "0B"] {
            assert_eq!(Size::parse(text).unwrap().to_string(), text);
        }
    }

    fn check_size(text: &str, bytes: Option<usize>) {
        assert_eq!(Size::parse(text), bytes.map(Size), "{text:?}");
    }

    #[test]
    fn sizes_are_one_number_with_one_unit() {
        check_size("64KiB", Some(65_536));
        check_size("2 MiB", Some(2_097_152));
        check_size("5KB", Some(5_000));
        check_size("1MB", Some(1_000_000));
        check_size("100B", Some(100));
        for text in ["", "64", "64kib", "64K", "1KiB1B", "-1B", "99999999999999999999MiB"] {
            check_size(text, None);
        }
    }
}
