//! A reply's body, checked against the question.

use std::os::fd::OwnedFd;

use vhost::vhost_user::message::FrontendReq;

use crate::fault::Fault;
use crate::message::{Answer, CONFIG_HEADER, INFLIGHT_BODY, long, word};

/// What a backend answered. Only the form was checked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// It did as it was told.
    Done,
    /// A number.
    Number(u64),
    /// Configuration space, as long as it was asked for.
    Config(Vec<u8>),
    /// A queue and where it stopped.
    Base { index: u32, base: u32 },
    /// An in-flight table was made (or cleared) for so many queues.
    Inflight { queues: u16, queue_size: u16 },
}

/// Decodes the answer to `request`. `fd` is the descriptor that came with it; it is closed here,
/// since nothing that a backend made is ever used.
pub(crate) fn decode(
    request: FrontendReq,
    answer: Answer,
    body: &[u8],
    fd: Option<OwnedFd>,
) -> Result<Reply, Fault> {
    let senseless = Fault::Body { request, len: body.len() };
    match answer {
        Answer::Ack if body.len() == 8 => match long(body, 0) {
            0 => Ok(Reply::Done),
            code => Err(Fault::Refused { request, code }),
        },
        Answer::Number if body.len() == 8 => Ok(Reply::Number(long(body, 0))),
        Answer::Base(asked) if body.len() == 8 => match (word(body, 0), word(body, 4)) {
            (index, base) if index == u32::from(asked) => Ok(Reply::Base { index, base }),
            // Taken for an answer it would stop a queue of which nothing was said.
            (index, base) => Err(Fault::Base { index, base }),
        },
        Answer::Config(len) => decode_config(len, body).ok_or(senseless),
        // libvhost-user and C leave 4 bytes of padding, others do not.
        Answer::Inflight if matches!(body.len(), 20 | INFLIGHT_BODY) && fd.is_some() => {
            let shape = word(body, 16).to_ne_bytes();
            let queues = u16::from_ne_bytes([shape[0], shape[1]]);
            Ok(Reply::Inflight { queues, queue_size: u16::from_ne_bytes([shape[2], shape[3]]) })
        }
        Answer::Log if matches!(body.len(), 8 | 16) => Ok(Reply::Done),
        _ => Err(senseless),
    }
}

fn decode_config(len: usize, body: &[u8]) -> Option<Reply> {
    let (offset, size) = (word(body, 0), word(body, 4));
    let space = body.get(CONFIG_HEADER..)?;
    (offset == 0 && size as usize == len && space.len() == len)
        .then(|| Reply::Config(space.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_acknowledgement_other_than_zero_is_a_refusal() {
        let got = decode(FrontendReq::SET_VRING_ADDR, Answer::Ack, &5u64.to_ne_bytes(), None);
        assert!(matches!(got, Err(Fault::Refused { code: 5, .. })));
    }

    #[test]
    fn a_configuration_space_of_another_length_is_refused() {
        let reply = |size: u32, len: usize| {
            let mut body = vec![0; CONFIG_HEADER + len];
            body[4..8].copy_from_slice(&size.to_ne_bytes());
            decode(FrontendReq::GET_CONFIG, Answer::Config(60), &body, None)
        };
        assert!(reply(60, 60).is_ok());
        for (size, len) in [(0, 0), (0, 60), (60, 59), (61, 61), (u32::MAX, 60)] {
            assert!(matches!(reply(size, len), Err(Fault::Body { .. })), "{size} {len}");
        }
    }

    #[test]
    fn an_inflight_table_without_descriptor_is_none() {
        let got = decode(FrontendReq::GET_INFLIGHT_FD, Answer::Inflight, &[0; 24], None);
        assert!(matches!(got, Err(Fault::Body { .. })));
    }

    fn any_answer() -> impl Strategy<Value = Answer> {
        let fixed =
            vec![Answer::Ack, Answer::Number, Answer::Base(0), Answer::Inflight, Answer::Log];
        prop_oneof![proptest::sample::select(fixed), (0usize..300).prop_map(Answer::Config)]
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(answer in any_answer(), body in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(Reply::Config(space)) = decode(FrontendReq::GET_CONFIG, answer, &body, None) {
                prop_assert_eq!(answer, Answer::Config(space.len()));
            }
        }
    }
}
