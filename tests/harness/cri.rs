//! Just enough gRPC to ask containerd's CRI something: one unary call over HTTP/2. The answer's headers are compressed and are
//! not read: a call that failed has no message, and its reason stands in containerd's journal.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// User and password of one pull, as a kubelet hands them over.
#[derive(Debug, Clone)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

impl Login {
    /// A user with a password.
    pub fn new(user: &str, password: &str) -> Self {
        Self { user: user.to_owned(), password: password.to_owned() }
    }
}

/// Whether the CRI has started and answers.
pub fn answers(socket: &Path) -> bool {
    call(socket, "/runtime.v1.RuntimeService/Version", &[], Duration::from_secs(2)).is_ok_and(|message| message.is_some())
}

/// PullImage; `None` when the pull failed.
pub fn pull(socket: &Path, image: &str, login: Option<&Login>, timeout: Duration) -> io::Result<Option<String>> {
    let mut request = field(1, &field(1, image.as_bytes()));
    if let Some(login) = login {
        let auth = [field(1, login.user.as_bytes()), field(2, login.password.as_bytes())].concat();
        request.extend(field(2, &auth));
    }
    let message = call(socket, "/runtime.v1.ImageService/PullImage", &request, timeout)?;
    Ok(message.map(|message| String::from_utf8_lossy(message.get(2..).unwrap_or_default()).into_owned()))
}

/// RemoveImage; true also for an image that is not there.
pub fn remove(socket: &Path, image: &str) -> io::Result<bool> {
    let request = field(1, &field(1, image.as_bytes()));
    Ok(call(socket, "/runtime.v1.ImageService/RemoveImage", &request, Duration::from_secs(20))?.is_some())
}

/// One unary call; the message of a successful one.
pub fn call(socket: &Path, method: &str, message: &[u8], timeout: Duration) -> io::Result<Option<Vec<u8>>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    let mut body = vec![0];
    body.extend(length(message.len()));
    body.extend(message);
    let opening =
        [PREFACE.to_vec(), frame(SETTINGS, 0, 0, &[]), frame(HEADERS, END_HEADERS, 1, &headers(method)), frame(DATA, END_STREAM, 1, &body)];
    stream.write_all(&opening.concat())?;
    let answer = receive(&mut stream)?;
    Ok((answer.len() >= 5).then(|| answer[5..].to_vec()))
}

fn receive(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    loop {
        let mut head = [0_u8; 9];
        stream.read_exact(&mut head)?;
        let (kind, flags) = (head[3], head[4]);
        let mut payload = vec![0; usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])];
        stream.read_exact(&mut payload)?;
        match kind {
            DATA => answer.extend(payload),
            SETTINGS if flags & ACK == 0 => stream.write_all(&frame(SETTINGS, ACK, 0, &[]))?,
            PING if flags & ACK == 0 => stream.write_all(&frame(PING, ACK, 0, &payload))?,
            RESET | GOAWAY => return Err(io::ErrorKind::ConnectionReset.into()),
            _ => {}
        }
        if flags & END_STREAM != 0 && matches!(kind, DATA | HEADERS) {
            return Ok(answer);
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = length(payload.len())[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn length(count: usize) -> [u8; 4] {
    u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes()
}

/// HPACK without compression: 0x83 is `:method: POST`, 0x86 `:scheme: http`; the others name an entry of the static table
/// (4 `:path`, 1 `:authority`, 31 `content-type`) and spell the value.
fn headers(path: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    for (name, value) in [(&b"\x04"[..], path), (b"\x01", "localhost"), (b"\x0f\x10", "application/grpc"), (b"\x00\x02te", "trailers")] {
        block.extend(name);
        block.push(u8::try_from(value.len()).unwrap_or(u8::MAX));
        block.extend(value.as_bytes());
    }
    block
}

/// One length-delimited protobuf field.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut rest = value.len();
    while rest >= 0x80 {
        field.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    field.push(rest as u8);
    field.extend(value);
    field
}
