//! How a process is asked whether it is ready.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long one probe may take.
const PROBE_MAX: Duration = Duration::from_secs(1);

/// `HTTP/1.1 200`: more of the answer says nothing about being ready.
const STATUS_BYTES: usize = 12;

/// How a process is asked whether it is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// It is ready when it runs.
    None,
    /// It is ready when it takes connections here.
    Tcp(SocketAddr),
    /// It is ready when a GET of this path is answered with a status of 200 to 299.
    Http(SocketAddr, Arc<str>),
}

impl Probe {
    /// Where it should listen.
    pub const fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::None => None,
            Self::Tcp(address) | Self::Http(address, _) => Some(*address),
        }
    }

    /// Asks once.
    pub(crate) async fn ask(&self) -> Result<(), Arc<str>> {
        let asked = async {
            match self {
                Self::None => Ok(()),
                Self::Tcp(address) => {
                    TcpStream::connect(address).await.map(drop).map_err(|error| told(&error))
                }
                Self::Http(address, path) => get(*address, path).await,
            }
        };
        timeout(PROBE_MAX, asked)
            .await
            .unwrap_or_else(|_| Err("the probe was not answered within 1 s".into()))
    }
}

fn told(error: &std::io::Error) -> Arc<str> {
    format!("the probe failed: {error}").into()
}

/// By hand: of an answer, only the status is of interest, and a client would bring a connection pool along.
async fn get(address: SocketAddr, path: &str) -> Result<(), Arc<str>> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut status = [0; STATUS_BYTES];
        stream.read_exact(&mut status).await?;
        Ok::<_, std::io::Error>(status)
    };
    let status = exchange.await.map_err(|error| told(&error))?;
    match &status {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', _, b' ', b'2', _, _] => Ok(()),
        _ => Err(format!("the probe was answered '{}'", String::from_utf8_lossy(&status)).into()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn answered(answer: &'static str) -> Result<(), Arc<str>> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        };
        let probe = Probe::Http(address, "/health".into());
        tokio::join!(probe.ask(), server).0
    }

    #[tokio::test]
    async fn only_a_success_is_ready() {
        for (answer, ready) in [
            ("HTTP/1.1 200 OK\r\n\r\n", true),
            ("HTTP/1.0 204 No Content\r\n\r\n", true),
            ("HTTP/1.1 503 No\r\n\r\n", false),
            ("SSH-2.0-OpenSSH", false),
            ("HTTP", false),
        ] {
            assert_eq!(answered(answer).await.is_ok(), ready, "{answer}");
        }
    }
}
