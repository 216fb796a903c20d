//! Whose trace a signal belongs to, as the header `traceparent` of W3C Trace Context names it.

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The length of a `traceparent` of version 00, the only one there is: `00-`, 32, `-`, 16, `-` and 2 digits.
const TRACEPARENT_LEN: usize = 55;

/// The bit of the flags that says the trace is kept.
const SAMPLED: u8 = 1;

/// Which trace, on however many machines: 16 bytes, not all of them zero, written as 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(NonZeroU128);

impl TraceId {
    /// The id of this number; `None` for zero, which names no trace.
    pub fn new(number: u128) -> Option<Self> {
        NonZeroU128::new(number).map(Self)
    }

    /// Its number.
    pub const fn get(self) -> u128 {
        self.0.get()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The text is not 32 hexadecimal digits in lower case, or all of them are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the id of a trace; write 32 hexadecimal digits in lower case, not all of them 0")]
pub struct TraceIdError;

impl FromStr for TraceId {
    type Err = TraceIdError;

    fn from_str(text: &str) -> Result<Self, TraceIdError> {
        if text.len() == 32 {
            digits(text).and_then(Self::new).ok_or(TraceIdError)
        } else {
            Err(TraceIdError)
        }
    }
}

impl Serialize for TraceId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TraceId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Where in a trace something was called: the trace, the span that calls, and whether the trace is kept.
///
/// # Examples
///
/// ```
/// use gemba_core::trace::TraceContext;
///
/// let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let context: TraceContext = header.parse().unwrap();
/// assert_eq!(context.trace_id.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
/// assert!(context.sampled);
/// assert_eq!(context.to_string(), header);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// The trace.
    pub trace_id: TraceId,
    /// The span that calls: the parent of what is done for it.
    pub span_id: NonZeroU64,
    /// Whether who began it keeps the trace.
    pub sampled: bool,
}

impl TraceContext {
    /// The first of a trace that nobody keeps yet. `random` makes it unlike any other: 122 bits of chance or more.
    pub fn begin(random: u128) -> Self {
        let trace_id = TraceId::new(random).unwrap_or(TraceId(NonZeroU128::MIN));
        Self { trace_id, span_id: span_id(random as u64), sampled: false }
    }

    /// The same trace, seen from a span of one's own, whose id is `random`.
    pub fn child(self, random: u64) -> Self {
        Self { span_id: span_id(random), ..self }
    }
}

/// Zero names no span.
fn span_id(random: u64) -> NonZeroU64 {
    NonZeroU64::new(random).unwrap_or(NonZeroU64::MIN)
}

/// As in the header `traceparent`, in version 00.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

/// The text is no `traceparent`. Whoever reads a header begins a trace of his own then, as the standard asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent; write like 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
pub struct TraceContextError;

impl FromStr for TraceContext {
    type Err = TraceContextError;

    /// Reads a `traceparent`. A version to come may say more at its end; what is known of it stands where it does now.
    fn from_str(text: &str) -> Result<Self, TraceContextError> {
        parse(text).ok_or(TraceContextError)
    }
}

fn parse(text: &str) -> Option<TraceContext> {
    let mut parts = text.splitn(5, '-');
    let mut part = |len: usize| parts.next().filter(|part| part.len() == len).and_then(digits);
    let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
    let ends_well = match version {
        0 => text.len() == TRACEPARENT_LEN,
        // The standard keeps this one for ever.
        0xff => false,
        _ => true,
    };
    let context = TraceContext {
        trace_id: TraceId::new(trace)?,
        span_id: NonZeroU64::new(span as u64)?,
        sampled: flags as u8 & SAMPLED != 0,
    };
    ends_well.then_some(context)
}

/// The number of hexadecimal digits in lower case, the only ones the standard allows.
fn digits(text: &str) -> Option<u128> {
    let known = text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    if known { u128::from_str_radix(text, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn a_header_of_the_standard_is_read_and_any_other_is_refused() {
        for (flags, sampled) in [("00", false), ("01", true), ("03", true), ("fe", false)] {
            let context: TraceContext = format!("00-{TRACE}-{SPAN}-{flags}").parse().unwrap();
            assert_eq!(
                (context.trace_id.to_string(), context.sampled),
                (TRACE.to_owned(), sampled),
                "{flags}"
            );
        }
        let later: TraceContext = format!("cc-{TRACE}-{SPAN}-01-what-it-may-say").parse().unwrap();
        assert_eq!(later.to_string(), format!("00-{TRACE}-{SPAN}-01"));
        let zeros = "0".repeat(32);
        for header in [
            String::new(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("00-{TRACE}-{SPAN}-01-"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{zeros}-{SPAN}-01"),
            format!("00-{TRACE}-{}-01", &zeros[..16]),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-+{}-{SPAN}-01", &TRACE[1..]),
            format!("0-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00_{TRACE}_{SPAN}_01"),
            format!("cc-{TRACE}-{SPAN}-011"),
        ] {
            assert_eq!(header.parse::<TraceContext>(), Err(TraceContextError), "{header}");
        }
    }

    #[test]
    fn a_context_is_small_enough_to_be_carried_by_value_and_its_absence_costs_no_room() {
        assert_eq!(size_of::<Option<Box<TraceContext>>>(), size_of::<usize>());
        assert_eq!(size_of::<Option<TraceId>>(), size_of::<u128>());
    }

    #[test]
    fn an_id_is_a_text_in_json_and_comes_back() {
        let id: TraceId = TRACE.parse().unwrap();
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, format!("\"{TRACE}\""));
        assert_eq!(serde_json::from_str::<TraceId>(&json).unwrap(), id);
        assert!(serde_json::from_str::<TraceId>("\"00\"").is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(random: u128, span: u64) {
            let context = TraceContext::begin(random).child(span);
            prop_assert_eq!(context.to_string().parse(), Ok(context));
            prop_assert_eq!(context.trace_id, TraceContext::begin(random).trace_id);
        }
    }
}
