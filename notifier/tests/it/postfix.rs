//! A Postfix of our own: Debian's, with its own configuration, queue, users and
//! mailboxes in a folder of its own, on free ports of 127.0.0.1. It takes mail
//! from one user who has logged in over TLS, for mailboxes that the test names.
//!
//! It ends with its [`Postfix`], and when the test's process is killed as well: a
//! shell holds it that waits for the end of a pipe from us.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use mail_parser::{Message, MessageParser};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

pub const DOMAIN: &str = "example.test";
const USER: &str = "baken@example.test";
const PASSWORD: &str = "correct horse";

/// For the start, and for the delivery of what was taken.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// Where Debian keeps daemons, beside the user's own path.
const SBIN: &str = "/usr/sbin:/sbin";

pub struct Postfix {
    folder: TempDir,
    starttls: SocketAddr,
    tls: SocketAddr,
    /// None while it is stopped.
    keeper: Option<Child>,
}

/// A mail as it lies in a mailbox.
#[derive(Clone, Debug)]
pub struct Mail {
    pub raw: Vec<u8>,
}

impl Mail {
    /// As a parser reads it that knows nothing of how it was written.
    pub fn parsed(&self) -> Message<'_> {
        MessageParser::default().parse(&self.raw).expect("a mail that can be parsed")
    }

    /// The value of a header as it stands in the mail, unfolded.
    pub fn header(&self, name: &str) -> Option<String> {
        let parsed = self.parsed();
        let value = parsed.header_raw(name)?;
        Some(value.replace("\r\n", "\n").replace("\n ", " ").trim().to_owned())
    }
}

impl Postfix {
    /// Starts a Postfix with these mailboxes, local parts at [`DOMAIN`].
    pub async fn start(mailboxes: &[&str]) -> Self {
        for tool in ["postfix", "saslpasswd2"] {
            let found = run("sh", &["-c", "command -v \"$1\"", "sh", tool], "");
            assert!(
                found.status.success(),
                "{tool} is missing: the tests need Debian's postfix and sasl2-bin, \
                 which `make packages-test` installs"
            );
        }
        let folder = tempfile::Builder::new().prefix("postfix-").tempdir().unwrap();
        let root = folder.path();
        assert_eq!(fs::metadata(root).unwrap().uid(), 0, "Postfix is started by root only");
        // Postfix's own user looks into it.
        fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
        let [starttls, tls] = free_addresses();
        write_configuration(root, mailboxes, starttls, tls);
        write_certificates(root);
        add_user(root);
        let mut postfix = Self { folder, starttls, tls, keeper: None };
        postfix.resume().await;
        postfix
    }

    /// Ends it; what it has taken and not delivered stays in its queue.
    pub fn stop(&mut self) {
        let Some(mut keeper) = self.keeper.take() else { return };
        // The end of the pipe ends Postfix, and the keeper ends after it.
        let _ = keeper.stdin.take().expect("a pipe").write_all(STOP.as_bytes());
        let _ = keeper.wait();
    }

    /// Starts it again, where it was.
    pub async fn resume(&mut self) {
        // The last one's says that it has ended.
        let _ = fs::remove_file(self.folder.path().join("out"));
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, STOP])
            .arg(self.folder.path())
            .env("PATH", path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.keeper = Some(keeper.unwrap());
        self.wait_until_it_greets().await;
    }

    /// Where STARTTLS is required.
    pub fn address(&self) -> SocketAddr {
        self.starttls
    }

    /// Where TLS begins with the connection.
    pub fn tls_address(&self) -> SocketAddr {
        self.tls
    }

    /// The CA of its certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A CA that it has nothing to do with.
    pub fn other_ca_file(&self) -> PathBuf {
        self.folder.path().join("other-ca.pem")
    }

    pub fn user(&self) -> &'static str {
        USER
    }

    pub fn password(&self) -> &'static str {
        PASSWORD
    }

    /// All that came for a mailbox, once all that was taken is delivered.
    pub async fn mailbox(&self, local_part: &str) -> Vec<Mail> {
        self.wait_until_delivered().await;
        let new = self.folder.path().join("mail").join(local_part).join("new");
        let mut files: Vec<PathBuf> = match fs::read_dir(new) {
            Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => panic!("{error}"),
        };
        files.sort();
        files.iter().map(|file| Mail { raw: fs::read(file).unwrap() }).collect()
    }

    /// What Postfix itself says.
    pub fn log(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.folder.path().join(name));
        let mut log = read("out").unwrap_or_default();
        log.push_str(&read("mail.log").unwrap_or_default());
        log
    }

    async fn wait_until_it_greets(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !greets(self.starttls).await {
            let log = self.log();
            assert!(!log.contains(ENDED), "Postfix didn't start:\n{log}");
            assert!(Instant::now() < deadline, "Postfix doesn't greet:\n{log}");
            sleep(POLL).await;
        }
    }

    /// A mail that was taken is in one of these folders until it is delivered.
    async fn wait_until_delivered(&self) {
        let deadline = Instant::now() + PATIENCE;
        let queue = self.folder.path().join("queue");
        while ["maildrop", "incoming", "active", "deferred"]
            .iter()
            .any(|f| has_file(&queue.join(f)))
        {
            assert!(Instant::now() < deadline, "Postfix delivers nothing:\n{}", self.log());
            sleep(POLL).await;
        }
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        self.stop();
    }
}

const STOP: &str = "stop";
const ENDED: &str = "postfix has ended";

/// `$0` is the word for an end by our will; without it our process was killed,
/// and nobody else removes the folder. A Postfix that is still starting can't be
/// stopped, so it is asked until it has ended.
const KEEPER: &str = r#"
(postfix -c "$1/config" start-fg; echo postfix has ended) >"$1/out" 2>&1 &
word=$(cat)
until grep -q 'postfix has ended' "$1/out"; do
    postfix -c "$1/config" stop
    sleep 0.1
done
[ "$word" = "$0" ] || rm -rf "$1"
"#;

fn path() -> String {
    format!("{}:{SBIN}", std::env::var("PATH").unwrap_or_default())
}

/// Runs a command to its end.
fn run(program: &str, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(program)
        .args(arguments)
        .env("PATH", path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn must(program: &str, arguments: &[&str], input: &str) {
    let output = run(program, arguments, input);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
}

fn free_addresses() -> [SocketAddr; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    listeners.map(|listener| listener.local_addr().unwrap())
}

fn write_configuration(root: &Path, mailboxes: &[&str], starttls: SocketAddr, tls: SocketAddr) {
    // Debian's Postfix looks for the settings of SASL beside its own.
    for folder in ["config/sasl", "queue", "data", "mail"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    let root = root.to_str().unwrap();
    must("chown", &["postfix", &format!("{root}/data")], "");
    must("chown", &["65534:65534", &format!("{root}/mail")], "");
    let write = |name: &str, text: &str| fs::write(format!("{root}/{name}"), text).unwrap();
    write("config/main.cf", &MAIN_CF.replace("ROOT", root));
    let services =
        MASTER_CF.replace("STARTTLS", &starttls.to_string()).replace("WRAPPED", &tls.to_string());
    write("config/master.cf", &services);
    let lines: Vec<_> = mailboxes.iter().map(|name| format!("{name}@{DOMAIN} {name}/\n")).collect();
    write("config/mailboxes", &lines.concat());
    let sasl = "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN LOGIN\n";
    write("config/sasl/smtpd.conf", &format!("{sasl}sasldb_path: {root}/users.db\n"));
}

/// All that it takes is for the mailboxes; nothing asks the network or leaves it.
const MAIN_CF: &str = "\
compatibility_level = 3.6
queue_directory = ROOT/queue
data_directory = ROOT/data
maillog_file = ROOT/mail.log
maillog_file_prefixes = ROOT
myhostname = mail.example.test
mydestination =
mynetworks =
alias_maps =
alias_database =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
disable_dns_lookups = yes
smtpd_peername_lookup = no
default_transport = error:nothing leaves this machine
default_process_limit = 20
virtual_mailbox_domains = example.test
virtual_mailbox_base = ROOT/mail
virtual_mailbox_maps = texthash:ROOT/config/mailboxes
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
smtpd_tls_security_level = encrypt
smtpd_tls_cert_file = ROOT/cert.pem
smtpd_tls_key_file = ROOT/key.pem
smtpd_tls_received_header = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_path = smtpd
cyrus_sasl_config_path = ROOT/config/sasl
smtpd_client_restrictions = permit_sasl_authenticated, reject
smtpd_relay_restrictions = permit_sasl_authenticated, reject
";

const MASTER_CF: &str = "\
STARTTLS  inet       n - n - - smtpd
WRAPPED   inet       n - n - - smtpd
  -o smtpd_tls_wrappermode=yes
cleanup   unix       n - n - 0 cleanup
qmgr      unix       n - n 300 1 qmgr
rewrite   unix       - - n - - trivial-rewrite
bounce    unix       - - n - 0 bounce
defer     unix       - - n - 0 bounce
trace     unix       - - n - 0 bounce
proxymap  unix       - - n - - proxymap
tlsmgr    unix       - - n 1000? 1 tlsmgr
error     unix       - - n - - error
retry     unix       - - n - - error
virtual   unix       - n n - - virtual
anvil     unix       - - n - 1 anvil
pickup    unix       n - n 60 1 pickup
showq     unix       n - n - - showq
postlog   unix-dgram n - n - 1 postlogd
";

/// A CA, a certificate by it for 127.0.0.1, and a CA that has signed nothing.
fn write_certificates(root: &Path) {
    let write = |name: &str, text: String| fs::write(root.join(name), text).unwrap();
    let authority = || {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        (Issuer::new(params, key), pem)
    };
    let (issuer, ca) = authority();
    write("ca.pem", ca);
    write("other-ca.pem", authority().1);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    write("cert.pem", params.signed_by(&key, &issuer).unwrap().pem());
    write("key.pem", key.serialize_pem());
}

fn add_user(root: &Path) {
    let file = format!("{}/users.db", root.to_str().unwrap());
    let (name, realm) = USER.split_once('@').unwrap();
    must("saslpasswd2", &["-p", "-c", "-f", &file, "-u", realm, name], PASSWORD);
    must("chown", &["postfix", &file], "");
}

async fn greets(address: SocketAddr) -> bool {
    let Ok(stream) = TcpStream::connect(address).await else { return false };
    let mut line = String::new();
    let read = BufReader::new(stream).read_line(&mut line).await;
    read.is_ok() && line.starts_with("220 ")
}

fn has_file(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    entries
        .flatten()
        .any(|entry| entry.file_type().is_ok_and(|kind| kind.is_file() || has_file(&entry.path())))
}
