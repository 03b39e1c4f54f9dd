//! A web server with the certificate of somebody who signs calls: as it should be, and in each way it should not.

use super::tls::Authority;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// What whoever asks gets.
#[derive(Clone)]
pub enum Serves {
    Document(String),
    /// It is sent on to another place.
    Redirect(String),
    /// Octets without end.
    Endless,
    /// Something that is no HTTP.
    Garbage,
    /// Nothing at all: the connection is taken and nobody speaks.
    Silence,
}

/// A running server. It ends when it is dropped.
pub struct CertificateServer {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    serves: Arc<Mutex<Serves>>,
    ended: Arc<AtomicBool>,
}

impl CertificateServer {
    /// At 127.0.0.1, with a certificate of `authority` for itself.
    pub fn start(authority: &Authority, serves: Serves) -> CertificateServer {
        let own = authority.issue("cert.operator.test");
        let chain = CertificateDer::pem_slice_iter(own.certificate.as_bytes());
        let chain = chain.collect::<Result<Vec<_>, _>>().expect("our own certificate");
        let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("our own key");
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the usual versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("they fit");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let server = CertificateServer {
            address,
            asked: Arc::default(),
            serves: Arc::new(Mutex::new(serves)),
            ended: Arc::default(),
        };
        let (asked, serves, ended) = (server.asked.clone(), server.serves.clone(), server.ended.clone());
        let config = Arc::new(config);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let (config, asked) = (config.clone(), asked.clone());
                let serves = serves.lock().expect("nobody panicked").clone();
                std::thread::spawn(move || answer(stream, config, &serves, &asked));
            }
        });
        server
    }

    /// Where its document is.
    pub fn url(&self) -> String {
        format!("https://{}/shaken.pem", self.address)
    }

    /// Serves something else from now on.
    pub fn serve(&self, serves: Serves) {
        *self.serves.lock().expect("nobody panicked") = serves;
    }

    /// How often somebody asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for CertificateServer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for the next one.
        let _ = TcpStream::connect(self.address);
    }
}

/// Whoever does not speak TLS, or goes away, ends the connection: errors are nobody's business here.
fn answer(tcp: TcpStream, config: Arc<ServerConfig>, serves: &Serves, asked: &AtomicUsize) {
    let _ = tcp.set_read_timeout(Some(Duration::from_secs(30)));
    let Ok(tls) = ServerConnection::new(config) else { return };
    let mut stream = StreamOwned::new(tls, tcp);
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.windows(4).any(|four| four == b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(length) => request.extend_from_slice(&buffer[..length]),
        }
    }
    asked.fetch_add(1, Ordering::Relaxed);
    let head = |length: usize| {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/pem-certificate-chain\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let text = match serves {
        Serves::Document(document) => head(document.len()) + document,
        Serves::Redirect(place) => {
            format!("HTTP/1.1 302 Found\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n")
        }
        Serves::Endless => "HTTP/1.1 200 OK\r\n\r\n".to_owned() + &"x".repeat(10_000_000),
        Serves::Garbage => "220 mail.operator.test ESMTP\r\n".to_owned(),
        Serves::Silence => {
            // Until the one who waits gives up.
            while matches!(stream.read(&mut buffer), Ok(length) if length > 0) {}
            return;
        }
    };
    let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
    stream.conn.send_close_notify();
    let _ = stream.flush();
}
