//! A listener on loopback that containerd is sent to, to see whether it comes.

use std::{net::Ipv4Addr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// How long a client may take to say what it wants.
const DEADLINE: Duration = Duration::from_secs(10);
/// Names of registries that nobody is begin so; 127.116.0.0/16 is ours by nothing but this line.
const ADDRESSES: [u8; 2] = [127, 116];
/// A success that containerd cannot believe: it ends the pull, where a refusal would send it to the next host.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nDocker-Content-Digest: none\r\nConnection: close\r\n\r\n";

/// Whether a host directory has such a name.
#[must_use]
pub fn is_nonce_directory(name: &str) -> bool {
    name.starts_with(&format!("{}.{}.", ADDRESSES[0], ADDRESSES[1]))
}

/// It answers nothing that could be pulled.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    port: u16,
}

impl Listener {
    /// On a free port.
    ///
    /// # Errors
    /// When there is none; a sentence.
    pub async fn open() -> Result<Self, String> {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(|error| format!("no listener on loopback: {error}"))?;
        let port = socket.local_addr().map_err(|error| error.to_string())?.port();
        Ok(Self { socket, port })
    }

    /// Where it is asked.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A registry that nobody is: a containerd that has no settings for this name finds nobody there.
    #[must_use]
    pub fn nobody(&self, [third, fourth]: [u8; 2]) -> String {
        format!("{}.{}.{third}.{fourth}:{}", ADDRESSES[0], ADDRESSES[1], self.port)
    }

    /// The next request, answered.
    pub async fn next(&self) -> String {
        loop {
            if let Ok((stream, _)) = self.socket.accept().await
                && let Ok(Ok(request)) = timeout(DEADLINE, answer(stream)).await
            {
                return request;
            }
        }
    }
}

/// Reads one request and answers it on a connection that is closed then.
async fn answer(mut stream: TcpStream) -> std::io::Result<String> {
    let mut request = Vec::new();
    let mut part = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < 16 * 1024 {
        match stream.read(&mut part).await? {
            0 => break,
            count => request.extend_from_slice(&part[..count]),
        }
    }
    stream.write_all(ANSWER).await?;
    stream.shutdown().await?;
    Ok(String::from_utf8_lossy(&request).into_owned())
}
