//! The body of a request: read within a size and a time, and refused with an answer the sender gets to see.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use futures_util::StreamExt;

use crate::problem::{Kind, Problem};

/// The largest body that is read.
pub(crate) const BODY_BYTES_MAX: usize = 64 * 1024;

/// How long a body may take to arrive.
pub(crate) const BODY_WAIT_MAX: Duration = Duration::from_secs(5);

/// How much of a body that is too large is taken and thrown away. A sender that is still sending when the
/// connection closes gets a reset instead of the answer.
const DISCARD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Reads the whole body.
pub(crate) async fn read(headers: &HeaderMap, body: Body) -> Result<Vec<u8>, Problem> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: usize| DISCARD_BYTES_MAX < length) {
        return Err(too_large());
    }
    let read = tokio::time::timeout(BODY_WAIT_MAX, collect(body)).await;
    read.unwrap_or_else(|_| {
        let detail = format!("send the body within {} seconds", BODY_WAIT_MAX.as_secs());
        Err(Problem::new(Kind::BodyTooSlow, detail))
    })
}

async fn collect(body: Body) -> Result<Vec<u8>, Problem> {
    let mut chunks = body.into_data_stream();
    let (mut bytes, mut size) = (Vec::new(), 0);
    while let Some(chunk) = chunks.next().await {
        let chunk =
            chunk.map_err(|_| Problem::new(Kind::MalformedBody, "the body broke off; send it again"))?;
        size += chunk.len();
        if DISCARD_BYTES_MAX < size {
            break;
        }
        if size <= BODY_BYTES_MAX {
            bytes.extend_from_slice(&chunk);
        }
    }
    if BODY_BYTES_MAX < size { Err(too_large()) } else { Ok(bytes) }
}

fn too_large() -> Problem {
    Problem::new(Kind::BodyTooLarge, format!("send at most {BODY_BYTES_MAX} bytes"))
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn sent_in_chunks(bytes: usize) -> Body {
        let whole = vec![b'x'; bytes];
        let chunks: Vec<_> =
            whole.chunks(1_000).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect();
        Body::from_stream(stream::iter(chunks))
    }

    #[tokio::test]
    async fn the_largest_body_fits_and_one_byte_more_does_not() {
        for (bytes, fits) in
            [(0, true), (BODY_BYTES_MAX, true), (BODY_BYTES_MAX + 1, false), (10_000_000, false)]
        {
            match read(&HeaderMap::new(), sent_in_chunks(bytes)).await {
                Ok(body) => assert_eq!((body.len(), fits), (bytes, true)),
                Err(problem) => assert_eq!((problem.kind(), fits), (Kind::BodyTooLarge, false), "{bytes}"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_arrive_is_not_waited_for() {
        let stuck = Body::from_stream(stream::pending::<Result<Vec<u8>, std::io::Error>>());
        let problem = read(&HeaderMap::new(), stuck).await.unwrap_err();
        assert_eq!(problem.kind(), Kind::BodyTooSlow);
    }
}
