//! TLS to servers, verified against the CA in the spec.

use std::net::SocketAddr;
use std::sync::Arc;

use crd::TlsCheck;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct as Signed, Error, RootCertStore, SignatureScheme,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Reason;

/// How TLS is spoken to a server.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Whom the certificate must be for; `None`: for the server's address.
    name: Option<ServerName<'static>>,
    /// `None`: the CA can't be read.
    config: Option<Arc<ClientConfig>>,
}

impl Tls {
    /// As the spec says, for one protocol on top of it.
    #[must_use]
    pub fn new(spec: &TlsCheck, alpn: &str) -> Self {
        let name = spec.server_name.clone();
        let config = config(spec).map(|mut config| {
            config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
            // A resumed session proves nothing of the certificate.
            config.resumption = Resumption::disabled();
            Arc::new(config)
        });
        Self {
            name: name.and_then(|name| ServerName::try_from(name).ok()),
            config,
        }
    }

    /// Greets a server.
    pub async fn connect(
        &self,
        stream: TcpStream,
        server: SocketAddr,
    ) -> Result<TlsStream<TcpStream>, Reason> {
        let config = self.config.clone().ok_or(Reason::CaBundleInvalid)?;
        let name = self.name.clone().unwrap_or_else(|| server.ip().into());
        TlsConnector::from(config)
            .connect(name, stream)
            .await
            .map_err(|error| reason(&error))
    }
}

fn config(spec: &TlsCheck) -> Option<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .ok()?;
    if spec.insecure_skip_verify {
        let verifier = Arc::new(TakeAny(provider.signature_verification_algorithms));
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        return Some(builder.with_no_client_auth());
    }
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(spec.ca_bundle.as_ref()?.as_bytes()) {
        roots.add(certificate.ok()?).ok()?;
    }
    let is_something = !roots.is_empty();
    is_something.then(|| builder.with_root_certificates(roots).with_no_client_auth())
}

fn reason(error: &std::io::Error) -> Reason {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        None => Reason::of(error),
        Some(Error::InvalidCertificate(problem)) => match problem {
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Reason::TlsWrongName
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Reason::TlsExpired,
            _ => Reason::TlsUntrusted,
        },
        Some(_) => Reason::TlsFailed,
    }
}

/// Takes any certificate, if only the server has its key.
#[derive(Debug)]
struct TakeAny(WebPkiSupportedAlgorithms);

type Verified = Result<HandshakeSignatureValid, Error>;

impl ServerCertVerifier for TakeAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(&self, text: &[u8], by: &CertificateDer<'_>, signed: &Signed) -> Verified {
        verify_tls12_signature(text, by, signed, &self.0)
    }

    fn verify_tls13_signature(&self, text: &[u8], by: &CertificateDer<'_>, signed: &Signed) -> Verified {
        verify_tls13_signature(text, by, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
