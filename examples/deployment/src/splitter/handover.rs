//! How a splitter takes over from the one before it, without a connection refused: it is given the listening sockets
//! themselves, the table and the counts.
//!
//! Sockets that merely share an address (`SO_REUSEPORT`) will not do: the connections that wait at the one which is
//! closed are lost with it (docs/decisions/0020).

use std::io::{self, BufRead, BufReader, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;

use super::Counted;
use super::table::Table;

/// How long either side may take for its part.
const TURN_MAX: Duration = Duration::from_secs(3);

/// How often the one that leaves tells what it still has.
pub(crate) const TELL_EVERY: Duration = Duration::from_millis(100);

/// What is sent with the sockets; the number says in which form the rest comes.
const GREETING: &[u8; 4] = b"hnd1";

/// What the new one says when it takes connections.
const TAKEN: &[u8; 6] = b"taken\n";

/// What is passed on beside the sockets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Legacy {
    pub(crate) table: Table,
    pub(crate) counted: Counted,
}

/// What a splitter was given.
#[derive(Debug)]
pub(crate) struct Heritage {
    pub(crate) listener: TcpListener,
    pub(crate) admin: TcpListener,
    pub(crate) legacy: Legacy,
    rest: BufReader<UnixStream>,
}

/// Asks the splitter at `path` for what it has; `None` if there is none.
pub(crate) fn ask(path: &Path) -> io::Result<Option<Heritage>> {
    let stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    stream.set_read_timeout(Some(TURN_MAX))?;
    stream.set_write_timeout(Some(TURN_MAX))?;
    let mut sockets = receive(&stream)?.into_iter().map(TcpListener::from);
    let (Some(listener), Some(admin)) = (sockets.next(), sockets.next()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it passed on no two sockets"));
    };
    let mut rest = BufReader::new(stream);
    let legacy = serde_json::from_str(&line(&mut rest)?)?;
    Ok(Some(Heritage { listener, admin, legacy, rest }))
}

/// What the one that leaves has to say still.
#[derive(Debug)]
pub(crate) struct Will(BufReader<UnixStream>);

impl Heritage {
    /// Tells the one before that connections are taken here now.
    pub(crate) fn take(self) -> io::Result<(Legacy, Will)> {
        self.rest.get_ref().write_all(TAKEN)?;
        Ok((self.legacy, Will(self.rest)))
    }
}

impl Will {
    /// Its counts, again and again, until it is gone.
    pub(crate) fn next(&mut self) -> Option<Counted> {
        serde_json::from_str(&line(&mut self.0).ok()?).ok()
    }
}

fn line(from: &mut BufReader<UnixStream>) -> io::Result<String> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line)
}

fn receive(stream: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut greeting = [0; GREETING.len()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut greeting)];
    recvmsg(stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let sockets = control.drain().filter_map(|message| {
        if let RecvAncillaryMessage::ScmRights(sockets) = message { Some(sockets) } else { None }
    });
    let sockets = sockets.flatten().collect();
    if greeting != *GREETING {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it speaks of something else"));
    }
    Ok(sockets)
}

/// Listens for one that is to follow. Whoever listened there before is not found any more.
pub(crate) fn expect(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let fresh = path.with_extension(std::process::id().to_string());
    let listener = UnixListener::bind(&fresh)?;
    std::fs::rename(&fresh, path)?;
    Ok(listener)
}

/// Gives the sockets and what goes with them to whoever asked, and waits until it takes connections; then tells it
/// what is left here with [`tell`].
pub(crate) fn give(stream: &UnixStream, sockets: [&OwnedFd; 2], legacy: &Legacy) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(TURN_MAX))?;
    stream.set_write_timeout(Some(TURN_MAX))?;
    let sockets = sockets.map(AsFd::as_fd);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&sockets));
    sendmsg(stream, &[IoSlice::new(GREETING)], &mut control, SendFlags::NOSIGNAL)?;
    tell(stream, legacy)?;
    let mut taken = [0; TAKEN.len()];
    io::Read::read_exact(&mut &*stream, &mut taken)?;
    if taken == *TAKEN { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Writes one line.
pub(crate) fn tell(mut stream: &UnixStream, what: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec(what)?;
    text.push(b'\n');
    stream.write_all(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_and_legacy_arrive_and_nothing_is_lost_before_they_are_taken() {
        let (old, new) = UnixStream::pair().unwrap();
        let sockets = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let addresses = [0, 1].map(|index: usize| sockets[index].local_addr().unwrap());
        let table = Table { generation: 7, ..Table::default() };
        let legacy = Legacy { table: table.clone(), counted: Counted::default() };
        let giving = std::thread::spawn(move || {
            let sockets = sockets.map(OwnedFd::from);
            give(&old, [&sockets[0], &sockets[1]], &legacy)
        });
        let received: Vec<_> = receive(&new).unwrap().into_iter().map(TcpListener::from).collect();
        let mut rest = BufReader::new(new);
        let got: Legacy = serde_json::from_str(&line(&mut rest).unwrap()).unwrap();
        assert_eq!(got.table, table);
        let listening: Vec<_> = received.iter().map(|socket| socket.local_addr().unwrap()).collect();
        assert_eq!(listening, addresses);
        drop(rest);
        assert!(giving.join().unwrap().is_err(), "one that dies before it takes them changes nothing");
        let caller = std::net::TcpStream::connect(addresses[0]).unwrap();
        assert_eq!(received[0].accept().unwrap().1, caller.local_addr().unwrap());
    }

    #[test]
    fn nobody_there_is_nothing_to_take_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("handover");
        assert!(ask(&path).unwrap().is_none());
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(ask(&path).unwrap().is_none(), "left behind by one that died");
    }
}
