//! Kamailio as an operator's proxy: it stays in the way of a call (Record-Route) and can speak TLS on its outer side.

use super::{
    lane::Lane,
    process::{Log, Process},
    tls::{Authority, Issued},
    wait,
};
use std::{net::SocketAddr, path::Path, process::Command};

/// A Kamailio between a gateway and an operator's switch.
pub struct Kamailio {
    process: Process,
    outer: SocketAddr,
    inner: SocketAddr,
}

/// What the proxy speaks towards the gateway.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Outer {
    Udp,
    Tcp,
    Tls,
    /// Listens on both, and speaks UDP where it begins.
    UdpAndTcp,
}

impl Outer {
    fn as_str(self) -> &'static str {
        match self {
            Outer::Udp | Outer::UdpAndTcp => "udp",
            Outer::Tcp => "tcp",
            Outer::Tls => "tls",
        }
    }
}

impl Outer {
    #[track_caller]
    fn wait_listening(self, port: u16) {
        if matches!(self, Outer::Udp | Outer::UdpAndTcp) {
            wait::udp_bound(port, wait::START);
        }
        if matches!(self, Outer::Tcp | Outer::Tls | Outer::UdpAndTcp) {
            wait::tcp_listening(port, wait::START);
        }
    }
}

const COMMON: &str = r#"
debug=2
log_stderror=yes
fork=yes
children=2
tcp_children=2
auto_aliases=no
dns=no
rev_dns=no
tcp_connection_lifetime=3605
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "xlog.so"
"#;

/// The settings of TLS with a certificate of `authority`; none without one.
fn tls_settings(folder: &Path, authority: Option<&Authority>) -> String {
    authority.map_or_else(String::new, |authority| {
        tls_settings_of(folder, authority, &authority.issue("kamailio"), Clients::MayBeAnybody)
    })
}

/// How it writes itself into the way of a call.
#[derive(Clone, Copy)]
enum Routes {
    Loose,
    Strict,
}

/// Whom its TLS listener lets in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Clients {
    MayBeAnybody,
    /// Those that show a certificate of the authority.
    NeedACertificate,
}

/// The settings of TLS with this certificate, which it shows in both roles.
fn tls_settings_of(folder: &Path, authority: &Authority, own: &Issued, clients: Clients) -> String {
    std::fs::write(folder.join("cert.pem"), &own.certificate).expect("a certificate file");
    std::fs::write(folder.join("key.pem"), &own.key).expect("a key file");
    authority.write(folder);
    let at = folder.display();
    let domain = |kind: &str| {
        let checks = kind == "client" || clients == Clients::NeedACertificate;
        format!(
            "[{kind}:default]\nmethod = TLSv1.2+\nverify_certificate = {verify}\nrequire_certificate = {verify}\n\
             certificate = {at}/cert.pem\nprivate_key = {at}/key.pem\nca_list = {at}/ca.pem\n",
            verify = if checks { "yes" } else { "no" },
        )
    };
    std::fs::write(folder.join("tls.cfg"), domain("server") + &domain("client")).expect("a TLS file");
    format!("enable_tls=yes\nloadmodule \"tls.so\"\nmodparam(\"tls\", \"config\", \"{at}/tls.cfg\")\n")
}

/// What the proxy does with signed caller identities (Debian's secsipid module).
pub struct Identities<'a> {
    /// Signs calls of the switch: calling and called number as digits, attestation, where the certificate is.
    pub sign: Option<(&'a str, &'a str, &'a str, &'a str)>,
    /// The PEM of the key it signs with.
    pub key: &'a str,
    /// Refuses calls of the gateway that are not signed by a certificate of `authority`, which it fetches from where the
    /// signature says.
    pub verify: bool,
    pub authority: &'a Authority,
}

/// The parts of a configuration that are not always there.
#[derive(Default)]
struct Extra {
    globals: String,
    from_switch: String,
    from_gateway: String,
}

impl Identities<'_> {
    fn write(&self, folder: &Path) -> Extra {
        let key = folder.join("signer.pem");
        std::fs::write(&key, self.key).expect("a key file");
        let ca = self.authority.write(folder);
        let globals = format!(
            "loadmodule \"secsipid.so\"\nmodparam(\"secsipid\", \"timeout\", 5)\nmodparam(\"secsipid\", \"expire\", 60)\n\
             modparam(\"secsipid\", \"libopt\", \"CertVerify=5\")\n\
             modparam(\"secsipid\", \"libopt\", \"CertCAFile={}\")\n",
            ca.display()
        );
        let from_switch = self.sign.map_or_else(String::new, |(orig, dest, attestation, x5u)| {
            let key = key.display();
            format!(
                "secsipid_build_identity(\"{orig}\", \"{dest}\", \"{attestation}\", \"\", \"{x5u}\", \"{key}\"); \
                 xlog(\"L_NOTICE\", \"identity: $secsipid(val)\\n\"); \
                 append_hf(\"Identity: $secsipid(val)\\r\\n\");"
            )
        });
        let from_gateway = if self.verify {
            "if (!secsipid_check_identity(\"\")) { xlog(\"L_NOTICE\", \"identity refused: $rc\\n\"); \
             sl_send_reply(\"438\", \"Invalid Identity Header\"); exit; } xlog(\"L_NOTICE\", \"identity verified\\n\");"
                .to_owned()
        } else {
            String::new()
        };
        Extra { globals, from_switch, from_gateway }
    }
}

fn run(folder: &Path, config: &str) -> Process {
    let file = folder.join("kamailio.cfg");
    std::fs::write(&file, config).expect("a configuration file");
    let mut command = Command::new("kamailio");
    command.arg("-f").arg(&file).args(["-DD", "-E", "-m", "64", "-M", "4", "-Y"]).arg(folder);
    command.arg("-P").arg(folder.join("pid")).current_dir(folder);
    // Debian keeps it where a user's path does not lead.
    command.env("PATH", "/usr/sbin:/usr/local/sbin:/usr/bin:/bin");
    // Whom the library that fetches certificates believes.
    command.env("SSL_CERT_FILE", folder.join("ca.pem"));
    Process::start("kamailio", command)
}

impl Kamailio {
    /// Starts a proxy: what comes from outside goes to `switch` over UDP, what comes from `switch` to `gateway`.
    #[track_caller]
    pub fn start(
        lane: &Lane,
        outer: Outer,
        switch: SocketAddr,
        gateway: SocketAddr,
        authority: Option<&Authority>,
    ) -> Kamailio {
        let folder = lane.make_folder(&format!("kamailio-{}", switch.port()));
        let tls = tls_settings(&folder, authority.filter(|_| outer == Outer::Tls));
        Kamailio::start_in(lane, &folder, outer, switch, gateway, &tls, Routes::Loose, Extra::default())
    }

    /// The same over UDP, written into the routes as proxies of RFC 2543 are: without "lr".
    #[track_caller]
    pub fn start_strict(lane: &Lane, switch: SocketAddr, gateway: SocketAddr) -> Kamailio {
        let folder = lane.make_folder(&format!("kamailio-{}", switch.port()));
        Kamailio::start_in(lane, &folder, Outer::Udp, switch, gateway, "", Routes::Strict, Extra::default())
    }

    /// The same over TLS with a certificate of its own.
    #[track_caller]
    pub fn start_with_certificate(
        lane: &Lane,
        switch: SocketAddr,
        gateway: SocketAddr,
        authority: &Authority,
        own: &Issued,
        clients: Clients,
    ) -> Kamailio {
        let folder = lane.make_folder(&format!("kamailio-{}", switch.port()));
        let tls = tls_settings_of(&folder, authority, own, clients);
        Kamailio::start_in(lane, &folder, Outer::Tls, switch, gateway, &tls, Routes::Loose, Extra::default())
    }

    /// The same over UDP and TCP, signing and verifying who calls.
    #[track_caller]
    pub fn start_with_identities(
        lane: &Lane,
        switch: SocketAddr,
        gateway: SocketAddr,
        identities: &Identities<'_>,
    ) -> Kamailio {
        Kamailio::start_with_identities_over(lane, Outer::UdpAndTcp, switch, gateway, identities)
    }

    /// The same over another transport; its own certificate for TLS is of the authority of the identities too.
    #[track_caller]
    pub fn start_with_identities_over(
        lane: &Lane,
        outer: Outer,
        switch: SocketAddr,
        gateway: SocketAddr,
        identities: &Identities<'_>,
    ) -> Kamailio {
        let folder = lane.make_folder(if identities.verify { "kamailio-verifies" } else { "kamailio-signs" });
        let extra = identities.write(&folder);
        let tls = tls_settings(&folder, (outer == Outer::Tls).then_some(identities.authority));
        Kamailio::start_in(lane, &folder, outer, switch, gateway, &tls, Routes::Loose, extra)
    }

    #[track_caller]
    fn start_in(
        lane: &Lane,
        folder: &Path,
        outer: Outer,
        switch: SocketAddr,
        gateway: SocketAddr,
        tls: &str,
        routes: Routes,
        extra: Extra,
    ) -> Kamailio {
        let Extra { globals, from_switch, from_gateway } = extra;
        let (outer_port, inner_port) = (lane.port(), lane.port());
        let transport = outer.as_str();
        let also = match outer {
            Outer::UdpAndTcp => format!("listen=tcp:127.0.0.1:{outer_port}"),
            Outer::Udp | Outer::Tcp | Outer::Tls => String::new(),
        };
        let record = match routes {
            Routes::Loose => "record_route()".to_owned(),
            Routes::Strict => format!(r#"insert_hf("Record-Route: <sip:127.0.0.1:{outer_port}>\r\n")"#),
        };
        let config = format!(
            r#"#!KAMAILIO
{COMMON}
listen={transport}:127.0.0.1:{outer_port}
{also}
listen=udp:127.0.0.1:{inner_port}
{tls}
{globals}
modparam("rr", "enable_double_rr", 1)
modparam("rr", "append_fromtag", 0)
modparam("tm", "fr_timer", 5000)
modparam("tm", "fr_inv_timer", 60000)
request_route {{
    xlog("L_NOTICE", "proxy: $rm $ru from $proto:$si:$sp\n");
    if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
    if (is_method("CANCEL")) {{ if (t_check_trans()) t_relay(); exit; }}
    if (has_totag()) {{
        if (loose_route()) {{ t_relay(); exit; }}
        if (is_method("ACK") && t_check_trans()) {{ t_relay(); exit; }}
        sl_send_reply("404", "Not Here");
        exit;
    }}
    if (is_method("OPTIONS")) {{ sl_send_reply("200", "OK"); exit; }}
    t_check_trans();
    {record};
    if ($sp == {switch_port}) {{
        {from_switch}
        $du = "sip:{gateway};transport={transport}";
        $fs = "{transport}:127.0.0.1:{outer_port}";
    }} else {{
        {from_gateway}
        $du = "sip:{switch}";
        $fs = "udp:127.0.0.1:{inner_port}";
    }}
    if (!t_relay()) sl_reply_error();
}}
"#,
            switch_port = switch.port(),
        );
        let process = run(folder, &config);
        wait::udp_bound(inner_port, wait::START);
        outer.wait_listening(outer_port);
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Kamailio { process, outer: at(outer_port), inner: at(inner_port) }
    }

    /// Starts an operator's registrar over UDP: who registers as `user` with its password is told a Service-Route, has to
    /// take that way, and is rung at its Contact alone. Whom a call of `switch` is for stands in To and, in so many
    /// words, in P-Called-Party-ID.
    #[track_caller]
    pub fn operators_registrar(lane: &Lane, switch: SocketAddr, user: &str, password: &str) -> Kamailio {
        let folder = lane.make_folder("kamailio-registrar");
        let port = lane.port();
        let config = format!(
            r#"#!KAMAILIO
{COMMON}
listen=udp:127.0.0.1:{port}
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
modparam("usrloc", "db_mode", 0)
modparam("rr", "append_fromtag", 0)
request_route {{
    xlog("L_NOTICE", "proxy: $rm $ru from $proto:$si:$sp\n");
    if (is_method("CANCEL")) {{ if (t_check_trans()) t_relay(); exit; }}
    if (is_method("REGISTER")) {{
        if (!pv_www_authenticate("operator.test", "{password}", "0") || $au != "{user}") {{
            www_challenge("operator.test", "1");
            exit;
        }}
        append_to_reply("Service-Route: <sip:orig@127.0.0.1:{port};lr>\r\n");
        append_to_reply("Path: <sip:term@127.0.0.1:{port};lr>\r\n");
        save("location");
        exit;
    }}
    if (has_totag()) {{
        if (loose_route()) {{ t_relay(); exit; }}
        if (is_method("ACK") && t_check_trans()) {{ t_relay(); exit; }}
        sl_send_reply("404", "Not Here");
        exit;
    }}
    t_check_trans();
    if ($sp == {switch_port}) {{
        append_hf("P-Called-Party-ID: <sip:$rU@operator.test>\r\n");
        $rU = "{user}";
        if (!lookup("location")) {{ sl_send_reply("404", "Not Registered"); exit; }}
    }} else {{
        xlog("L_NOTICE", "way: $hdr(Route)\n");
        if (!($hdr(Route) =~ "orig@127.0.0.1:{port};lr")) {{ sl_send_reply("403", "Not The Way"); exit; }}
        # A route that is its own alone is taken away, and drives nothing.
        loose_route();
        $du = "sip:{switch}";
    }}
    record_route();
    if (!t_relay()) sl_reply_error();
}}
"#,
            switch_port = switch.port(),
        );
        let process = run(&folder, &config);
        wait::udp_bound(port, wait::START);
        let at = SocketAddr::from(([127, 0, 0, 1], port));
        Kamailio { process, outer: at, inner: at }
    }

    /// Starts a registrar that lets everybody in and connects its users: a stand-in where no gateway is meant.
    #[track_caller]
    pub fn registrar(lane: &Lane, outer: Outer, authority: Option<&Authority>) -> Kamailio {
        let folder = lane.make_folder("kamailio");
        let port = lane.port();
        let transport = outer.as_str();
        let tls = tls_settings(&folder, authority.filter(|_| outer == Outer::Tls));
        let config = format!(
            r#"#!KAMAILIO
{COMMON}
listen={transport}:127.0.0.1:{port}
{tls}
loadmodule "usrloc.so"
loadmodule "registrar.so"
modparam("usrloc", "db_mode", 0)
request_route {{
    if (is_method("REGISTER")) {{ save("location"); exit; }}
    if (is_method("CANCEL")) {{ if (t_check_trans()) t_relay(); exit; }}
    if (has_totag()) {{ loose_route(); t_relay(); exit; }}
    record_route();
    if (!lookup("location")) {{ sl_send_reply("404", "Not Found"); exit; }}
    t_relay();
}}
"#
        );
        let process = run(&folder, &config);
        outer.wait_listening(port);
        let at = SocketAddr::from(([127, 0, 0, 1], port));
        Kamailio { process, outer: at, inner: at }
    }

    /// Where the gateway reaches it.
    pub fn outer(&self) -> SocketAddr {
        self.outer
    }

    /// Where the operator's switch reaches it.
    pub fn inner(&self) -> SocketAddr {
        self.inner
    }

    /// The last Identity field that it signed a call with.
    pub fn signed(&self) -> Option<String> {
        let lines = self.log().lines();
        let told = lines.iter().rev().find_map(|line| line.split_once("identity: "));
        told.map(|(_, identity)| identity.trim().to_owned())
    }

    pub fn log(&self) -> &Log {
        self.process.log()
    }
}
