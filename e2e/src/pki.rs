//! Certificates for a test cluster: an authority, the pairs it signs, and the kubeconfigs that carry them.
//!
//! Keys are EC P-256. Nothing here knows which component wants which name.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

/// A certificate and its private key, both PEM.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The private key, PKCS#8.
    pub key: String,
}

impl Pair {
    /// Writes `NAME.crt` and `NAME.key` into `folder`; the key is for its owner alone.
    pub fn store(&self, folder: &Path, name: &str) -> Result<()> {
        let paths = PairPaths::new(folder, name);
        write_private(&paths.key, &self.key)?;
        replace(&paths.certificate, &self.certificate, 0o644)
    }

    /// Reads what [`Pair::store`] wrote.
    pub fn load(folder: &Path, name: &str) -> Result<Self> {
        let paths = PairPaths::new(folder, name);
        let read = |path: &Path| {
            fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))
        };
        Ok(Self {
            certificate: read(&paths.certificate)?,
            key: read(&paths.key)?,
        })
    }
}

/// Where a pair lies on disk.
#[derive(Clone, Debug)]
pub struct PairPaths {
    /// `FOLDER/NAME.crt`
    pub certificate: PathBuf,
    /// `FOLDER/NAME.key`
    pub key: PathBuf,
}

impl PairPaths {
    /// The paths of the pair `name` in `folder`, whether it is there or not.
    #[must_use]
    pub fn new(folder: &Path, name: &str) -> Self {
        Self {
            certificate: folder.join(format!("{name}.crt")),
            key: folder.join(format!("{name}.key")),
        }
    }
}

/// Who a certificate names: in Kubernetes a user and its groups.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The common name, which is the user.
    pub user: &'a str,
    /// The organization, which is the group.
    pub group: Option<&'a str>,
}

/// A certificate authority that can sign.
#[derive(Debug)]
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes a new authority.
    pub fn create(name: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let params = authority_params(name);
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self {
            certificate,
            issuer: Issuer::new(params, key),
        })
    }

    /// Takes up the authority stored as `name` in `folder`, or makes and stores one of that name.
    pub fn open(folder: &Path, name: &str) -> Result<Self> {
        if let Ok(pair) = Pair::load(folder, name) {
            let key = KeyPair::from_pem(&pair.key).context("could not read the authority's key")?;
            return Ok(Self {
                certificate: pair.certificate,
                issuer: Issuer::new(authority_params(name), key),
            });
        }
        let authority = Self::create(name)?;
        authority.pair().store(folder, name)?;
        Ok(authority)
    }

    /// The authority's own certificate, PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The authority's own certificate and key.
    #[must_use]
    pub fn pair(&self) -> Pair {
        Pair {
            certificate: self.certificate.clone(),
            key: self.issuer.key().serialize_pem(),
        }
    }

    /// Signs a client certificate.
    pub fn client(&self, subject: Subject<'_>) -> Result<Pair> {
        self.sign(subject, &[], &[ExtendedKeyUsagePurpose::ClientAuth])
    }

    /// Signs a server certificate for `hosts`, which are DNS names or addresses.
    pub fn server(&self, subject: Subject<'_>, hosts: &[&str]) -> Result<Pair> {
        self.sign(subject, hosts, &[ExtendedKeyUsagePurpose::ServerAuth])
    }

    fn sign(&self, subject: Subject<'_>, hosts: &[&str], usages: &[ExtendedKeyUsagePurpose]) -> Result<Pair> {
        let key = KeyPair::generate()?;
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        let mut params = CertificateParams::new(hosts)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, subject.user);
        if let Some(group) = subject.group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages.to_vec();
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Pair {
            certificate,
            key: key.serialize_pem(),
        })
    }
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params
}

/// Makes the key pair that signs service-account tokens: the private and the public key, both PEM.
pub fn service_account_keys() -> Result<(String, String)> {
    let key = KeyPair::generate()?;
    Ok((key.serialize_pem(), key.public_key_pem()))
}

/// A kubeconfig that holds its certificates itself, so that it can be copied anywhere. It is JSON, which is YAML.
#[must_use]
pub fn kubeconfig(server: &str, authority: &str, client: &Pair) -> String {
    let config = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "lab", "cluster": {
            "server": server,
            "certificate-authority-data": base64(authority.as_bytes()),
        }}],
        "users": [{"name": "user", "user": {
            "client-certificate-data": base64(client.certificate.as_bytes()),
            "client-key-data": base64(client.key.as_bytes()),
        }}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "user"}}],
        "current-context": "lab",
    });
    format!("{config:#}\n")
}

/// Writes a file that only its owner may read.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    replace(path, text, 0o600)
}

/// Replaces a file in one step, so that an interrupted run leaves none that is half written.
fn replace(path: &Path, text: &str, mode: u32) -> Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let write = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&new)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&new, path)
    };
    write().with_context(|| format!("could not write {}", path.display()))
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk
            .iter()
            .enumerate()
            .fold(0u32, |sum, (i, &byte)| sum | u32::from(byte) << (16 - 8 * i));
        for position in 0..4 {
            let symbol = ALPHABET[(group >> (18 - 6 * position)) as usize & 63];
            text.push(if position <= chunk.len() {
                char::from(symbol)
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads_as_the_standard_says() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }

    #[test]
    fn an_authority_taken_up_again_signs_with_the_same_key() {
        let folder = std::env::temp_dir().join(format!("plb-pki-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let first = Authority::open(&folder, "ca").unwrap();
        let second = Authority::open(&folder, "ca").unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(first.pair().key, second.pair().key);
        assert_eq!(first.certificate(), second.certificate());
    }

    #[test]
    fn a_kubeconfig_is_json_with_everything_in_it() {
        let authority = Authority::create("ca").unwrap();
        let client = authority
            .client(Subject {
                user: "jane",
                group: Some("admins"),
            })
            .unwrap();
        let text = kubeconfig("https://127.0.0.1:6443", authority.certificate(), &client);
        let config: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            config["clusters"][0]["cluster"]["server"],
            "https://127.0.0.1:6443"
        );
        assert_eq!(
            config["users"][0]["user"]["client-key-data"],
            base64(client.key.as_bytes())
        );
    }
}
