//! What a request is answered once its payment has moved; stored with the key, so a replay is the same.

use serde_json::{Value, json};

use crate::asked::Asked;
use crate::payment::{Payment, PaymentId, State};
use crate::problem::{Kind, Problem};
use gemba::policy::Rejection;

/// What an answer says of its request.
const OF_THE_REQUEST: [&str; 2] = ["trace_id", "took_ms"];

/// An answer as it is stored and sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The payment it is about.
    pub payment: PaymentId,
    /// The HTTP status.
    pub status: u16,
    /// The JSON body: the payment for a status below 400, otherwise a problem.
    pub body: String,
}

impl Answer {
    /// The answer for a payment that has just moved; `rejection` is what it was rejected for, and `asked` the request
    /// it answers. What an answer says of its request, it says in every replay: it is that request's answer.
    ///
    /// `None` for a payment that is not answered by its state: it is still worked on, or it failed
    /// before anything was sent and its key is free again.
    pub fn of(payment: &Payment, rejection: Option<&Rejection>, asked: Option<&Asked>) -> Option<Self> {
        let (status, mut body) = match payment.state {
            State::Captured => (201, payment.view()),
            State::Unknown => (202, payment.view()),
            State::Declined => problem(&declined(payment)),
            State::RejectedByPolicy => problem(&rejected(payment, rejection)),
            State::Authorising | State::Failed => return None,
        };
        if let Some(asked) = asked {
            body["trace_id"] = asked.trace_id().to_string().into();
            body["took_ms"] = asked.took_ms().into();
        }
        Some(Self { payment: payment.id, status, body: body.to_string() })
    }

    /// The same answer, which says of its request what the answer given `before` says: it is found out later, by
    /// nobody's request, and still that one's answer.
    pub(crate) fn in_place_of(mut self, before: &Self) -> Self {
        let bodies = (serde_json::from_str(&self.body), serde_json::from_str(&before.body));
        if let (Ok(Value::Object(mut body)), Ok(Value::Object(mut before))) = bodies {
            for member in OF_THE_REQUEST {
                body.extend(before.remove_entry(member));
            }
            self.body = Value::Object(body).to_string();
        }
        self
    }
}

fn problem(problem: &Problem) -> (u16, Value) {
    (problem.kind().status().as_u16(), problem.to_json())
}

fn declined(payment: &Payment) -> Problem {
    let code = payment.decline_code.as_deref().unwrap_or("unspecified");
    Problem::new(Kind::Declined, format!("the gateway declined with '{code}'; nothing was charged"))
        .about(payment.location())
        .with("decline_code", code)
        .with("payment", payment.id.to_string())
}

fn rejected(payment: &Payment, rejection: Option<&Rejection>) -> Problem {
    let problem = Problem::new(
        Kind::RejectedByPolicy,
        "nothing was charged; see violations for each rule that does not hold",
    )
    .about(payment.location())
    .with("payment", payment.id.to_string());
    match rejection {
        Some(Rejection { policy, version, violations }) => problem
            .with("policy", json!(policy))
            .with("policy_version", json!(version))
            .with("violations", json!(violations)),
        None => problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::payment;

    fn answer_in(state: State, rejection: Option<&Rejection>) -> Option<(u16, Value)> {
        let payment = Payment { state, decline_code: Some("card_declined".into()), ..payment() };
        Answer::of(&payment, rejection, None).map(|a| (a.status, serde_json::from_str(&a.body).unwrap()))
    }

    #[test]
    fn each_state_has_its_status() {
        for (state, status) in [
            (State::Captured, Some(201)),
            (State::Unknown, Some(202)),
            (State::Declined, Some(402)),
            (State::RejectedByPolicy, Some(422)),
            (State::Authorising, None),
            (State::Failed, None),
        ] {
            assert_eq!(answer_in(state, None).map(|(status, _)| status), status, "{state:?}");
        }
    }

    #[test]
    fn an_answer_found_out_later_is_still_that_of_its_request() {
        let answer = |state| Answer::of(&Payment { state, ..payment() }, None, None).unwrap();
        let asked = |body: &str| Answer { body: body.to_owned(), ..answer(State::Unknown) };
        let captured = answer(State::Captured);
        let before = asked(r#"{"status":"processing","trace_id":"7f","took_ms":2000}"#);
        let mut found: Value = serde_json::from_str(&captured.clone().in_place_of(&before).body).unwrap();
        assert_eq!((&found["trace_id"], &found["took_ms"]), (&"7f".into(), &2000.into()));
        assert_eq!(found["status"], "captured", "the rest is its own");
        for member in OF_THE_REQUEST {
            found.as_object_mut().unwrap().remove(member);
        }
        assert_eq!(found, serde_json::from_str::<Value>(&captured.body).unwrap());
        assert_eq!(captured.clone().in_place_of(&asked("{}")).body, captured.body, "there is nothing to say");
    }

    #[test]
    fn a_refusal_names_its_reasons_and_never_the_card() {
        let violation =
            gemba::policy::Violation { rule: "velocity".into(), version: 3, message: "too fast".into() };
        let rejection = Rejection { policy: "fraud".into(), version: 2, violations: vec![violation] };
        let (_, rejected) = answer_in(State::RejectedByPolicy, Some(&rejection)).unwrap();
        assert_eq!((&rejected["policy"], &rejected["policy_version"]), (&"fraud".into(), &2.into()));
        assert_eq!(rejected["violations"][0]["rule"], "velocity");
        assert_eq!(rejected["violations"][0]["version"], 3);
        let (_, declined) = answer_in(State::Declined, None).unwrap();
        assert_eq!(declined["decline_code"], "card_declined");
        let (_, captured) = answer_in(State::Captured, None).unwrap();
        assert_eq!(captured["status"], "captured");
        for body in [rejected, declined, captured] {
            assert!(!body.to_string().contains("tok_"), "{body}");
        }
    }
}
