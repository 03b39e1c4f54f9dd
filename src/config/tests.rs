//! The configuration file as its writers meet it.

use super::*;
use crate::types::{AudioCodec, Transport};
use std::{collections::BTreeSet, path::PathBuf, time::Duration};

const EXAMPLE: &str = include_str!("../../config/tandem.example.toml");

fn no_environment(_: &str) -> Option<String> {
    None
}

fn parse(text: &str) -> Result<Config, Vec<String>> {
    Config::parse(Path::new("t.toml"), text, &no_environment)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

/// The only problem of a text, without the file's name.
fn problem(text: &str) -> String {
    let problems = parse(text).expect_err("the text should be wrong");
    assert_eq!(problems.len(), 1, "{problems:#?}");
    problems[0].strip_prefix("t.toml:").unwrap().replacen(" error: ", " ", 1)
}

/// The example with its commented-out settings written.
fn whole_example() -> String {
    let setting = |line: &str| {
        let Some(rest) = line.strip_prefix("# ") else { return false };
        let key = rest.split([' ', '=']).next().unwrap_or("");
        let is_key =
            !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        rest.starts_with("[[") || (is_key && rest[key.len()..].trim_start().starts_with('='))
    };
    EXAMPLE.lines().map(|line| if setting(line) { &line[2..] } else { line }).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_is_the_default_and_so_is_an_empty_file() {
    assert_eq!(parse(EXAMPLE).unwrap(), Config::default());
    assert_eq!(parse("").unwrap(), Config::default());
}

#[test]
fn the_example_shows_every_key_and_none_that_does_not_exist() {
    let directory = std::env::temp_dir().join(format!("tandem-example-{}", std::process::id()));
    std::fs::create_dir_all(directory.join("secrets")).unwrap();
    for secret in ["alice", "operator-a", "operate", "read"] {
        std::fs::write(directory.join("secrets").join(secret), "secret").unwrap();
    }
    let text = whole_example();
    let environment = |name: &str| (name == "TANDEM_ADMIN_TOKEN").then(|| "token".to_owned());
    let read = read::read(Path::new("example"), &text, &directory, &environment);
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(read.problems, [], "every value of the example can be taken");
    let table: toml::Table = text.parse().unwrap();
    let mut shown = BTreeSet::new();
    for (key, value) in &table {
        shown.insert(key.clone());
        let tables: Vec<&toml::Table> = match value {
            toml::Value::Table(table) => vec![table],
            toml::Value::Array(items) => items.iter().filter_map(toml::Value::as_table).collect(),
            _ => vec![],
        };
        for table in tables {
            show(key, table, &mut shown);
        }
    }
    assert_eq!(shown, read.known.into_iter().collect::<BTreeSet<_>>());
}

/// The keys of a table and of those inside it, but for tables whose keys are free.
fn show(path: &str, table: &toml::Table, shown: &mut BTreeSet<String>) {
    for (key, value) in table {
        let path = format!("{path}.{key}");
        let inner = match value {
            toml::Value::Table(inner) if !["failover", "address"].contains(&key.as_str()) => vec![inner],
            toml::Value::Array(items) => items.iter().filter_map(toml::Value::as_table).collect(),
            _ => vec![],
        };
        for inner in inner {
            show(&path, inner, shown);
        }
        shown.insert(path);
    }
}

#[test]
fn the_trunk_of_the_example_has_the_defaults_it_says() {
    let text = whole_example();
    let start = text.find("[[trunk]]").unwrap();
    let end = text.find("[[trunk.header]]").unwrap();
    let distinct = ["carrier", "auth", "username", "password", "peers", "failover"];
    let kept: Vec<&str> =
        text[start..end].lines().filter(|line| !distinct.iter().any(|key| line.starts_with(key))).collect();
    let config = parse(&kept.join("\n")).unwrap();
    let proxy = ["sbc1.operator-a.example", "192.0.2.7:5060"].map(|proxy| host_port(proxy).unwrap());
    assert_eq!(config.trunks, [TrunkConfig::new("operator-a", proxy.to_vec())]);
}

#[test]
fn the_files_that_come_with_the_gateway_pass_their_own_check() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    for file in ["config/tandem.example.toml", "config/lab.toml"] {
        assert_eq!(check_with(&root.join(file), &no_environment), [], "{file}");
        Config::load_with(&root.join(file), &no_environment).unwrap();
    }
}

#[test]
fn a_typo_names_file_line_and_the_nearest_key() {
    assert_eq!(
        problem("[sip]\nrealm = \"example.org\"\nlissten = [\"udp:0.0.0.0:5060\"]\n"),
        "3: unknown key \"lissten\" in [sip]; did you mean \"listen\"?"
    );
    assert_eq!(
        problem("[trunks]\n"),
        "1: unknown key \"trunks\" at the top of the file; did you mean \"trunk\"?"
    );
    assert_eq!(
        problem("[[trunk]]\nname = \"a\"\nproxy = [\"a.example\"]\nmax_chanels = 5\n"),
        "4: unknown key \"max_chanels\" in [trunk]; did you mean \"max_channels\"?"
    );
}

#[test]
fn wrong_values_say_what_to_write() {
    let cases = [
        (
            "[opus]\ncomplexity = 11",
            "2: opus.complexity is 11; write a whole number from 0 to 10: 0 is cheapest, 10 best",
        ),
        ("[log]\nformat = \"xml\"", "2: log.format: \"xml\" is not known; write \"text\" or \"json\""),
        ("[log]\nlevel = \"inf\"", "2: log.level: \"inf\" is no level; did you mean \"info\"?"),
        ("[media]\nptime_ms = 25", "2: media.ptime_ms is 25; write 10, 20, 30, 40 or 60"),
        ("[sip]\nlisten = []", "2: sip.listen holds no listener; write listen = [\"udp:0.0.0.0:5060\"]"),
        (
            "[sip]\nrealm = \"a b\"",
            "2: sip.realm: \"a b\" is no domain; write the part after @ of your users' addresses, as \"example.org\"",
        ),
        (
            "[database]\nurl = \"mysql://u:p@h\"",
            "2: database.url: it is no database; write \"sqlite:data/tandem.db\" or \"postgres://user:password@host/tandem\"",
        ),
        (
            "[admin]\ntoken = \"env:NOT_SET\"",
            "2: admin.token: the environment variable NOT_SET is not set; set it before the start",
        ),
        ("[[trunk]]\nname = \"a\"", "1: trunk.proxy is missing; write proxy = [\"sbc.operator.example\"]"),
        (
            "[[trunk]]\nname = \"a\"\nproxy = []",
            "3: trunk.proxy is empty; write proxy = [\"sbc.operator.example\"]",
        ),
        ("[[trunk]]\nproxy = [\"a\"]", "1: trunk.name is missing; write name = \"operator-a\""),
        (
            "[[trunk]]\nname = \"a\"\nproxy = [\"a\"]\nnetwork = \"defalt\"",
            "4: trunk.network: there is no network \"defalt\"; did you mean \"default\"?",
        ),
        (
            "[[user]]\nname = \"a b\"\npassword = \"x\"",
            "2: user.name: \"a b\" is no user name; write up to 64 letters, digits, - _ and .",
        ),
        (
            "[[user]]\nname = \"a\"",
            "1: user.password is missing; write password = \"…\", \"env:NAME\" or \"file:PATH\"",
        ),
        (
            "[[user]]\nname = \"a\"\npassword = \"x\"\ndids = [\"02 555\"]",
            "4: user.dids: \"02 555\" is not an E.164 number; write + and 1 to 15 digits, as +3225550001",
        ),
        (
            "[[rate]]\nprefix = \"32\"\nper_minute = \"1\"",
            "2: rate.prefix: \"32\" is no prefix; write + and digits, as \"+32\"",
        ),
        (
            "[[rate]]\nprefix = \"+32\"\nper_minute = 0.01",
            "3: rate.per_minute is a number with a fraction; write a text: per_minute = \"…\"",
        ),
        (
            "[[rate]]\nprefix = \"+32\"\nper_minute = \"1\"\ntrunk = \"x\"",
            "4: rate.trunk: there is no trunk \"x\"; write the name of a [[trunk]]",
        ),
        (
            "[sip]\nlisten = [\"ws:0.0.0.0:80\"]",
            "2: sip.listen: \"ws:0.0.0.0:80\": this version does not listen on WebSocket; write udp, tcp or tls",
        ),
        (
            "[sip]\nlisten = [\"tls:0.0.0.0:5061\"]",
            "1: sip.listen has tls:0.0.0.0:5061, which needs [tls] certificate = \"tls/cert.pem\" and key = \"tls/key.pem\"",
        ),
        (
            "[sip]\nlisten = [\"udp:0.0.0.0:5060@ipx\"]",
            "2: sip.listen: there is no network \"ipx\"; write [[network]] name = \"ipx\"",
        ),
        (
            "[tls]\nkey = \"k.pem\"",
            "1: tls needs both: certificate = \"tls/cert.pem\" and key = \"tls/key.pem\"",
        ),
    ];
    for (text, expected) in cases {
        let text = text.to_owned();
        let found = parse(&text).expect_err(expected);
        let found: Vec<String> = found
            .iter()
            .map(|found| found.strip_prefix("t.toml:").unwrap().replacen(" error: ", " ", 1))
            .collect();
        assert!(found.contains(&expected.to_owned()), "expected {expected}\nfound {found:#?}");
    }
}

#[test]
fn all_problems_of_a_file_come_at_once_in_the_order_of_its_lines() {
    let problems =
        parse("[opus]\nbitrate = 1\n[sip]\nrelm = \"x\"\n[[trunk]]\nname = \"a\"\nproxy = [\"a\"]\nauth = \"digest\"\n")
            .unwrap_err();
    let lines: Vec<&str> = problems.iter().map(|problem| problem.split(": ").next().unwrap()).collect();
    assert_eq!(lines, ["t.toml:2", "t.toml:4", "t.toml:8", "t.toml:8"]);
}

#[test]
fn names_numbers_and_sockets_are_not_given_twice() {
    let trunk = "[[trunk]]\nname = \"a\"\nproxy = [\"a\"]\n";
    assert_eq!(problem(&trunk.repeat(2)), "4: trunk \"a\" exists already at line 1; give it its own name");
    let user = |name| format!("[[user]]\nname = \"{name}\"\npassword = \"x\"\ndids = [\"+3225550001\"]\n");
    assert_eq!(
        problem(&(user("a") + &user("b"))),
        "8: user.dids: +3225550001 rings \"a\" already; a DID rings one user"
    );
    assert_eq!(
        problem("[sip]\nlisten = [\"udp:0.0.0.0:5060\", \"udp:0.0.0.0:5060\"]"),
        "2: sip.listen has 0.0.0.0:5060 twice; write another port"
    );
    assert_eq!(
        problem("[[network]]\nname = \"ipx\"\n[[network]]\nname = \"ipx\"\n"),
        "3: network \"ipx\" exists already at line 1; give it its own name"
    );
    let rate = "[[rate]]\nprefix = \"+32\"\nper_minute = \"1\"\n";
    assert_eq!(problem(&rate.repeat(2)), "5: rate.prefix: +32 has a price already; remove one of the two");
}

#[test]
fn a_secret_never_appears_in_a_problem_or_in_debug_output() {
    let text = "[[user]]\nname = \"alice\"\npassword = \"hunter2\"\n[database]\nurl = \"postgres://u:hunter2@h/d\"\n\
                [admin]\ntoken = \"hunter2\"\n[[trunk]]\nname = \"a\"\nproxy = [\"a\"]\npassword = \"hunter2\"\n";
    assert!(!format!("{:?}", parse(text).unwrap()).contains("hunter2"));
    let wrong = parse(&text.replace("postgres", "mysql")).unwrap_err();
    assert!(!wrong.concat().contains("hunter2"), "{wrong:?}");
}

#[test]
fn a_trunk_is_read_as_it_is_written() {
    let config = parse(
        r#"
        [[network]]
        name = "ipx"
        public_address = ["192.0.2.1", "2001:db8::1"]
        media_ports = "30000-30099"
        dscp_media = 12
        "#,
    );
    assert!(
        config.unwrap_err()[0]
            .contains("network.dscp_media is a number; write it in quotes: dscp_media = \"12\"")
    );
    let config = parse(
        r#"
        [[network]]
        name = "ipx"
        public_address = ["192.0.2.1", "2001:db8::1"]
        [[trunk]]
        name = "a"
        network = "ipx"
        proxy = "SBC.example:5080"
        transport = "tls"
        auth = "register"
        username = "gw"
        password = "p"
        peers = ["192.0.2.0/28"]
        codecs = ["pcmu", "opus"]
        max_channels = 10
        options_seconds = 0
        reply_timeout_ms = 2000
        called_format = "national"
        srtp = "sdes"
        tls_name = "Peer.example"
        failover = { "603" = "next", "503" = "block:60" }
        "#,
    )
    .unwrap();
    let trunk = &config.trunks[0];
    assert_eq!(config.network(trunk.network).name, "ipx");
    assert_eq!(
        config
            .network(trunk.network)
            .public_address_for("::ffff:10.0.0.1".parse().unwrap())
            .unwrap()
            .to_string(),
        "192.0.2.1"
    );
    assert_eq!(trunk.proxy[0].to_string(), "sbc.example:5080");
    assert_eq!((trunk.transport, trunk.auth), (Transport::Tls, TrunkAuth::Register));
    assert_eq!(trunk.codecs, [AudioCodec::Pcmu, AudioCodec::Opus]);
    assert_eq!((trunk.max_channels, trunk.options), (Some(10), None));
    assert_eq!(trunk.reply_timeout, Duration::from_secs(2));
    assert_eq!((trunk.domain(), trunk.tls_name.as_deref()), ("sbc.example", Some("peer.example")));
    let action = |code| trunk.failover.action(crate::routing::Failure::Status { code, q850: None });
    assert_eq!(action(603), crate::routing::FailoverAction::Next);
    assert_eq!(action(503), crate::routing::FailoverAction::FinalAndBlock(Duration::from_secs(60)));
}

#[test]
fn calls_come_over_no_less_than_the_transport_unless_the_file_says_so_and_then_check_warns() {
    let trunk = |keys: &str| {
        let trunk = format!("[[trunk]]\nname = \"a\"\nproxy = [\"192.0.2.7\"]\n{keys}\n");
        let client_ca = "[tls]\nclient_ca = \"clients.pem\"\n";
        let config = parse(&format!("{client_ca}{trunk}")).unwrap();
        let warnings: Vec<String> = checked("calls-over", &trunk, "")
            .into_iter()
            .filter(|said| said.contains("calls_over"))
            .collect();
        (config.trunks[0].calls_over(), config.trunks[0].is_known_by_name(), warnings.len())
    };
    assert_eq!(trunk(""), (Transport::Udp, false, 0));
    assert_eq!(trunk("transport = \"tcp\""), (Transport::Tcp, false, 0));
    assert_eq!(trunk("calls_over = \"tcp\""), (Transport::Tcp, false, 0));
    let tls = "transport = \"tls\"\ntls_name = \"sbc.example\"";
    assert_eq!(trunk(tls), (Transport::Tls, true, 0));
    assert_eq!(trunk(&format!("{tls}\ncalls_over = \"tcp\"")), (Transport::Tcp, false, 0));
    assert_eq!(trunk(&format!("{tls}\ncalls_over = \"udp\"")), (Transport::Udp, false, 1));
}

#[test]
fn check_warns_of_peers_that_make_nobody_the_trunk_because_its_certificate_has_to() {
    let warned = |client_ca: &str, keys: &str| {
        let text = format!("{client_ca}[[trunk]]\nname = \"a\"\nproxy = [\"192.0.2.7\"]\n{keys}\n");
        let said = checked("peers-in-vain", &text, "");
        said.into_iter().filter(|said| said.contains("peers of trunk")).collect::<Vec<_>>()
    };
    let client_ca = "[tls]\nclient_ca = \"t.toml\"\n";
    let named = "transport = \"tls\"\ntls_name = \"sbc.example\"";
    let both = format!("{named}\npeers = [\"192.0.2.0/28\"]");
    assert_eq!(
        warned(client_ca, &both),
        [
            "t.toml:4: warning: peers of trunk \"a\" are not looked at: with tls.client_ca its calls are known by the \
          certificate of its tls_name \"sbc.example\" alone, and refused without it; leave peers out, or write \
          calls_over = \"tcp\" if it shows none when it calls"
        ]
    );
    assert!(warned(client_ca, named).is_empty(), "nothing says that an address would do");
    assert!(warned(client_ca, &format!("{both}\ncalls_over = \"tcp\"")).is_empty());
    assert!(warned(client_ca, "peers = [\"192.0.2.0/28\"]").is_empty());
    assert!(warned("", &both).is_empty(), "nobody is asked for a certificate");
}

#[test]
fn prices_are_exact_and_the_longest_prefix_counts() {
    let config = parse(
        "[[trunk]]\nname = \"a\"\nproxy = [\"a\"]\n\
         [[rate]]\nprefix = \"+32\"\nper_minute = \"0.0125\"\ntrunk = \"a\"\n\
         [[rate]]\nprefix = \"+324\"\nper_minute = \"0.1\"\ntrunk = \"a\"\n\
         [[rate]]\nprefix = \"+\"\nper_minute = \"2.00000001\"\ncurrency = \"USD\"\n",
    )
    .unwrap();
    assert_eq!(config.rates[2].rate.per_minute_e8, 200_000_001);
    let price = |number: &str| config.buy_price(crate::routing::TrunkIndex(0), &number.parse().unwrap());
    assert_eq!(price("+3225550001"), Some(1_250_000));
    assert_eq!(price("+32470123456"), Some(10_000_000));
    assert_eq!(price("+441632960123"), None);
}

#[test]
fn paths_are_relative_to_the_file() {
    let read = |text| Config::parse(Path::new("/etc/tandem/tandem.toml"), text, &no_environment).unwrap();
    let config = read("[tls]\ncertificate = \"tls/c.pem\"\nkey = \"/abs/k.pem\"\n");
    assert_eq!(config.tls.certificate.as_deref(), Some(Path::new("/etc/tandem/tls/c.pem")));
    assert_eq!(config.tls.key.as_deref(), Some(Path::new("/abs/k.pem")));
    assert_eq!(config.gateway.data_dir, Path::new("/etc/tandem/data"));
    assert_eq!(config.database.url.expose(), "sqlite:/etc/tandem/data/tandem.db");
    let memory = read("[database]\nurl = \"sqlite::memory:\"");
    assert_eq!(memory.database.url.expose(), "sqlite::memory:");
}

/// Writes a configuration and its dialplan, and gives what `check` says of them, without the directory.
fn checked(name: &str, config: &str, dialplan: &str) -> Vec<String> {
    let directory = std::env::temp_dir().join(format!("tandem-check-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("t.toml"), format!("dialplan = \"d.toml\"\n{config}")).unwrap();
    std::fs::write(directory.join("d.toml"), dialplan).unwrap();
    let problems = check_with(&directory.join("t.toml"), &no_environment);
    let prefix = format!("{}/", directory.display());
    std::fs::remove_dir_all(&directory).unwrap();
    problems.iter().map(|problem| problem.to_string().replace(&prefix, "")).collect()
}

#[test]
fn check_finds_trunks_that_cannot_be_told_apart() {
    let trunk =
        |name: &str, more: &str| format!("[[trunk]]\nname = \"{name}\"\nproxy = [\"sbc.example\"]\n{more}\n");
    let said = checked("same", &(trunk("a", "") + &trunk("b", "")), "");
    assert_eq!(
        said,
        [
            "t.toml:6: error: calls from trunks \"a\" and \"b\" can't be told apart: both have the proxy sbc.example; \
          write peers, match_host, match_trunk_group or network so that they differ"
        ]
    );
    let peers = "peers = [\"192.0.2.7\"]";
    let said = checked("peers", &(trunk("a", peers) + &trunk("b", peers)), "");
    assert!(said[0].contains("both have 192.0.2.7/32"), "{said:?}");
    let differ = trunk("a", peers) + &trunk("b", &format!("{peers}\nmatch_host = \"b.example\""));
    assert_eq!(checked("differ", &differ, ""), Vec::<String>::new());
}

#[test]
fn a_trunk_moves_no_call_to_phone_numbers_and_sends_none_to_a_name() {
    let trunk = |more: &str| format!("[[trunk]]\nname = \"a\"\nproxy = [\"sbc.example\"]\n{more}\n");
    let said = checked("transfer", &trunk("transfer = \"all\""), "");
    assert!(said[0].contains("t.toml:5: error: trunk.transfer = \"all\""), "{said:?}");
    let said = checked("redirect", &trunk("redirect_to = [\"192.0.2.8\", \"sbc2.example\"]"), "");
    assert!(said[0].contains("redirect_to has \"sbc2.example\"; write an address"), "{said:?}");
    let timed = trunk("session_timer_seconds = 1800\nprack = \"required\"\ntransfer = \"users\"");
    assert_eq!(checked("timed", &timed, ""), Vec::<String>::new(), "what has an effect is no warning");
}

#[test]
fn check_warns_of_ports_that_meet_and_misses_files() {
    let said = checked(
        "ports",
        "[sip]\nlisten = [\"udp:0.0.0.0:20010\"]\n[[network]]\nname = \"ipx\"\nbind = [\"10.0.0.1\"]\n\
         [tls]\ncertificate = \"c.pem\"\nkey = \"k.pem\"\n",
        "",
    );
    assert_eq!(
        said,
        [
            "t.toml: warning: networks \"default\" and \"ipx\" share media ports on one address; give each its own \
             media_ports",
            "t.toml: warning: sip.listen 0.0.0.0:20010 lies in the media ports 20000-29999 of the default network; \
             choose another port",
            "t.toml:8: error: tls.certificate: c.pem: No such file or directory (os error 2); write the path of a \
             file that is there",
            "t.toml:9: error: tls.key: k.pem: No such file or directory (os error 2); write the path of a file that \
             is there",
        ]
    );
}

#[test]
fn check_says_which_dialplan_is_missing() {
    let problems = check_with(Path::new("/nonexistent/t.toml"), &no_environment);
    assert!(problems[0].message.contains("--config FILE"));
    let directory = std::env::temp_dir().join(format!("tandem-missing-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("t.toml"), "\ndialplan = \"gone.toml\"\n").unwrap();
    let problems = check_with(&directory.join("t.toml"), &no_environment);
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!(problems[0].line, Some(2));
    assert!(problems[0].message.contains("gone.toml"), "{}", problems[0].message);
}

#[test]
fn check_runs_the_cases_of_the_dialplan() {
    let said = checked(
        "cases",
        "[[trunk]]\nname = \"a\"\nproxy = [\"a.example\"]\n",
        "country_code = \"32\"\n[[rule]]\nname = \"all\"\nmatch = \"+\"\ntrunks = [\"a\"]\n\
         [[expect]]\nfrom = \"alice\"\ndial = \"0470123456\"\nnumber = \"+32470123456\"\ntrunks = [\"a\"]\n\
         [[expect]]\nfrom = \"alice\"\ndial = \"0470123456\"\nnumber = \"+33470123456\"\nreject = 403\n",
    );
    assert_eq!(said.len(), 2, "{said:#?}");
    assert!(said[0].starts_with(
        "d.toml:11: error: dialling \"0470123456\": number is \"+32470123456\", expected \"+33470123456\""
    ));
    assert!(said[1].contains("reject is none, expected \"403\""));
    assert!(said[1].contains("rule \"all\" matches"), "it says why: {}", said[1]);
}

proptest::proptest! {
    /// Half-written files are what an editor leaves: they give problems, never a panic.
    #[test]
    fn no_text_panics(at in 0usize..10_000, with in "[\\PC\n]{0,3}") {
        let text = whole_example();
        let at = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let _ = parse(&format!("{}{with}{}", &text[..at], text[at..].get(1..).unwrap_or("")));
    }
}

#[test]
fn every_trunk_profile_is_one_that_the_reader_takes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/trunks");
    let mut read = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        read += 1;
        // Passwords stand in files that a profile's reader has yet to write.
        let text = std::fs::read_to_string(&path).unwrap().replace("file:secrets/", "secret-of-");
        let text = text.replace("transport = \"tls\"", "transport = \"tls\"\ntls_verify = true");
        let found = super::read::read(&path, &text, Path::new("/etc/tandem"), &|_| None);
        let problems: Vec<String> = found.problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems, Vec::<String>::new(), "{}", path.display());
        assert_eq!(found.config.trunks.len(), 1, "{}", path.display());
    }
    assert!(read >= 7, "{read} profiles");
}

#[test]
fn the_profile_of_an_apps_network_never_meets_a_phone_network() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/trunks");
    let text = std::fs::read_to_string(folder.join("whatsapp-business-calling.toml")).unwrap();
    let text = text.replace("file:secrets/", "secret-of-");
    let found = super::read::read(Path::new("whatsapp"), &text, Path::new("/etc/tandem"), &|_| None);
    assert!(found.config.trunks[0].app_side);
}
