//! DNS (RFC 1035): one question, and whether the answer has a record of it.

use crd::{DnsCheck, DnsRecordType};

use super::Reason;

const HEADER: usize = 12;
const QUERY: u16 = 0x0100;
const IS_REPLY: u16 = 0x8000;
const IS_CUT: u16 = 0x0200;
const OPCODE: u16 = 0x7800;
const CODE: u16 = 0x000f;
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const CLASS_INTERNET: u16 = 1;

/// A question, as it stands in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    bytes: Vec<u8>,
    type_: u16,
}

impl Question {
    /// As the spec says; `None` for a name that was never validated and is wrong.
    #[must_use]
    pub fn new(spec: &DnsCheck) -> Option<Self> {
        let name = spec.name.strip_suffix('.').unwrap_or(&spec.name);
        let mut bytes = Vec::with_capacity(name.len() + 6);
        for label in name.split('.') {
            let length = u8::try_from(label.len())
                .ok()
                .filter(|length| (1..=63).contains(length))?;
            bytes.push(length);
            bytes.extend_from_slice(label.as_bytes());
        }
        bytes.push(0);
        let type_ = match spec.type_ {
            DnsRecordType::A => TYPE_A,
            DnsRecordType::AAAA => TYPE_AAAA,
        };
        let is_short = bytes.len() <= 255;
        bytes.extend(type_.to_be_bytes());
        bytes.extend(CLASS_INTERNET.to_be_bytes());
        is_short.then_some(Self { bytes, type_ })
    }

    /// The message that asks it. Recursion is desired, as resolvers need it and others don't mind.
    #[must_use]
    pub fn message(&self, id: u16) -> Vec<u8> {
        let header = [id, QUERY, 1, 0, 0, 0];
        let mut message: Vec<u8> = header.into_iter().flat_map(u16::to_be_bytes).collect();
        message.extend(&self.bytes);
        message
    }

    /// Whether a reply to the message of that id is good.
    pub fn judge(&self, id: u16, reply: &[u8]) -> Result<(), Reason> {
        let [found, flags, questions, answers] = [0, 2, 4, 6].map(|at| number(reply, at).unwrap_or_default());
        let is_ours = reply.len() >= HEADER && found == id && flags & (IS_REPLY | OPCODE) == IS_REPLY;
        if !is_ours {
            return Err(Reason::BadReply);
        }
        match u8::try_from(flags & CODE) {
            Ok(0) => {}
            Ok(code) => return Err(Reason::DnsCode(code)),
            Err(_) => return Err(Reason::BadReply),
        }
        // Names may come back in other letters.
        let end = HEADER + self.bytes.len();
        let question = reply.get(HEADER..end).ok_or(Reason::BadReply)?;
        if questions != 1 || !question.eq_ignore_ascii_case(&self.bytes) {
            return Err(Reason::BadReply);
        }
        if flags & IS_CUT != 0 {
            // More than fits is more than nothing.
            return Ok(());
        }
        let mut at = end;
        for _ in 0..answers {
            let (type_, next) = record(reply, at).ok_or(Reason::BadReply)?;
            if type_ == self.type_ {
                return Ok(());
            }
            at = next;
        }
        Err(Reason::NoRecord)
    }
}

/// The type of the record that begins at `at`, and where it ends.
fn record(message: &[u8], at: usize) -> Option<(u16, usize)> {
    let fixed = after_name(message, at)?;
    let type_ = number(message, fixed)?;
    let length = number(message, fixed + 8)?;
    let end = fixed + 10 + usize::from(length);
    (end <= message.len()).then_some((type_, end))
}

/// Where the name that begins at `at` ends. Pointers are not followed.
fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = *message.get(at)?;
        match length {
            0 => return Some(at + 1),
            1..=63 => at += 1 + usize::from(length),
            192..=255 => return Some(at + 2),
            _ => return None,
        }
    }
}

fn number(message: &[u8], at: usize) -> Option<u16> {
    let bytes = message.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn question(name: &str, type_: DnsRecordType) -> Option<Question> {
        Question::new(&DnsCheck {
            name: name.into(),
            type_,
        })
    }

    fn example() -> Question {
        question("example.com", DnsRecordType::A).expect("a name")
    }

    /// A reply with records of these types.
    fn reply(flags: u16, types: &[u16]) -> Vec<u8> {
        let mut reply = example().message(7);
        reply[2..4].copy_from_slice(&flags.to_be_bytes());
        reply[7] = u8::try_from(types.len()).expect("few");
        for type_ in types {
            reply.extend([0xc0, 12]);
            reply.extend(
                [*type_, CLASS_INTERNET, 0, 60, 4]
                    .into_iter()
                    .flat_map(u16::to_be_bytes),
            );
            reply.extend([192, 0, 2, 1]);
        }
        reply
    }

    #[test]
    fn a_question_is_written_as_the_standard_says() {
        let bytes = b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01";
        assert_eq!(example().message(7), bytes);
        let sixth = question("example.com.", DnsRecordType::AAAA).expect("a name");
        assert!(sixth.message(7).ends_with(b"\x03com\x00\x00\x1c\x00\x01"));
    }

    #[test]
    fn impossible_names_are_not_asked_for() {
        for name in ["", ".", "a..b", &"x".repeat(64), &"y.".repeat(200)] {
            assert_eq!(question(name, DnsRecordType::A), None, "{name}");
        }
    }

    #[test]
    fn a_record_of_the_type_is_good() {
        let judge = |reply: &[u8]| example().judge(7, reply);
        assert_eq!(judge(&reply(0x8180, &[1])), Ok(()));
        assert_eq!(judge(&reply(0x8180, &[5, 1])), Ok(()));
        assert_eq!(judge(&reply(0x8180, &[5])), Err(Reason::NoRecord));
        assert_eq!(judge(&reply(0x8180, &[])), Err(Reason::NoRecord));
        assert_eq!(judge(&reply(0x8380, &[])), Ok(()));
        assert_eq!(judge(&reply(0x8182, &[])), Err(Reason::DnsCode(2)));
        let mut other = reply(0x8180, &[1]);
        other[13] = b'E';
        assert_eq!(judge(&other), Ok(()));
    }

    #[test]
    fn what_is_no_answer_to_the_question_is_bad() {
        let judge = |reply: &[u8]| example().judge(7, reply);
        assert_eq!(judge(&example().message(7)), Err(Reason::BadReply));
        assert_eq!(example().judge(8, &reply(0x8180, &[1])), Err(Reason::BadReply));
        let mut other = reply(0x8180, &[1]);
        other[13] = b'f';
        assert_eq!(judge(&other), Err(Reason::BadReply));
        let cut = reply(0x8180, &[5, 1]);
        assert_eq!(judge(&cut[..cut.len() - 1]), Err(Reason::BadReply));
        assert_eq!(judge(b""), Err(Reason::BadReply));
    }

    proptest! {
        #[test]
        fn no_reply_makes_it_panic(tail: Vec<u8>, count: u8, flags in prop_oneof![Just(0x8180_u16), any::<u16>()]) {
            let mut reply = reply(flags, &[]);
            reply[7] = count;
            reply.extend(&tail);
            let _ = example().judge(7, &reply);
            let _ = example().judge(7, &tail);
        }
    }
}
