//! Other servers that carry the same calls in the same run: Kamailio, a proxy, and Asterisk, a B2BUA.

use super::server::{Addresses, Server};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Kamailio as a stateful proxy that stays in the dialog; `None` where it is not installed.
pub fn kamailio(name: &str) -> Option<Server> {
    // Debian keeps it where a user's path does not lead.
    let program =
        ["/usr/sbin/kamailio", "/usr/local/sbin/kamailio"].into_iter().find(|p| Path::new(p).exists())?;
    Server::start(name, |folder, at| {
        fs::write(folder.join("kamailio.cfg"), kamailio_config(at)).expect("a configuration");
        let mut command = Command::new(program);
        command.args(["-f", "kamailio.cfg", "-DD", "-E", "-m", "256", "-M", "8", "-P", "kamailio.pid", "-Y"]);
        command.arg(folder);
        Some(command)
    })
}

/// Asterisk with PJSIP, both media sides its own, no CDR; `None` where `tools/debian-tree` could not fetch it.
pub fn asterisk(name: &str) -> Option<Server> {
    let tree = asterisk_tree()?;
    let modules = modules(&tree)?;
    Server::start(name, |folder, at| {
        for (file, text) in asterisk_config(at, folder, &tree, &modules) {
            fs::write(folder.join(file), text).expect("a configuration");
        }
        let mut command = Command::new(tree.join("asterisk"));
        command.args(["-f", "-n", "-C"]).arg(folder.join("asterisk.conf"));
        Some(command)
    })
}

/// Which release of Asterisk it is, without what its distribution adds.
pub fn asterisk_version() -> String {
    let program = asterisk_tree().map(|tree| tree.join("asterisk").display().to_string());
    let version = program.map_or("Asterisk".to_owned(), |program| super::machine::version(&program, "-V"));
    version.split(['+', '~']).next().unwrap_or_default().to_owned()
}

fn asterisk_tree() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    Some(cache.join("tandem/asterisk-sid")).filter(|tree| tree.join("asterisk").exists())
}

/// Its modules stand in a folder named by the architecture.
fn modules(tree: &Path) -> Option<PathBuf> {
    let folders = fs::read_dir(tree.join("usr/lib")).ok()?;
    folders.flatten().map(|folder| folder.path().join("asterisk/modules")).find(|modules| modules.is_dir())
}

/// The least that lets a call through from one SIPp to the other.
fn asterisk_config(
    at: &Addresses,
    folder: &Path,
    tree: &Path,
    modules: &Path,
) -> Vec<(&'static str, String)> {
    let Addresses { server, caller, callee } = at;
    let (folder, tree, modules) = (folder.display(), tree.display(), modules.display());
    let asterisk = format!(
        "[directories]\nastetcdir => {folder}\nastmoddir => {modules}\nastvarlibdir => {folder}\n\
         astdbdir => {folder}\nastkeydir => {folder}\nastdatadir => {tree}/usr/share/asterisk\n\
         astagidir => {folder}\nastspooldir => {folder}\nastrundir => {folder}\nastlogdir => {folder}\n\
         [options]\ndocumentation_language = en\nmaxfiles = 65536\n"
    );
    let modules: String = ["[modules]", "autoload = no"]
        .into_iter()
        .map(str::to_owned)
        .chain(ASTERISK_MODULES.into_iter().map(|name| format!("load = {name}.so")))
        .collect::<Vec<_>>()
        .join("\n");
    let endpoint =
        "type=endpoint\ntransport=udp\ncontext=through\ndisallow=all\nallow=alaw,ulaw\ndirect_media=no\n";
    let pjsip = format!(
        "[system]\ntype=system\nthreadpool_initial_size=5\n[udp]\ntype=transport\nprotocol=udp\nbind={server}\n\
         [caller]\n{endpoint}[caller]\ntype=identify\nendpoint=caller\nmatch={}\n\
         [callee]\n{endpoint}aors=callee\n[callee]\ntype=aor\ncontact=sip:{callee}\n",
        caller.ip()
    );
    let through = "[through]\nexten => _+X!,1,Dial(PJSIP/${EXTEN}@callee)\n";
    let mut files = vec![
        ("asterisk.conf", asterisk),
        ("modules.conf", modules),
        ("pjsip.conf", pjsip),
        ("extensions.conf", through.to_owned()),
        ("rtp.conf", "[general]\nrtpstart=20000\nrtpend=29999\n".to_owned()),
        ("logger.conf", "[general]\n[logfiles]\nconsole => error\n".to_owned()),
    ];
    // Without a file of their own these keep the whole from starting.
    let empty = ["acl.conf", "ccss.conf", "cdr.conf", "cel.conf", "features.conf", "indications.conf"];
    let empty = empty.into_iter().chain(["pjproject.conf", "stasis.conf", "udptl.conf"]);
    files.extend(empty.map(|file| (file, String::new())));
    files
}

const ASTERISK_MODULES: [&str; 19] = [
    "pbx_config",
    "res_pjproject",
    "app_dial",
    "bridge_simple",
    "bridge_native_rtp",
    "codec_alaw",
    "codec_ulaw",
    "res_timing_timerfd",
    "res_rtp_asterisk",
    "res_sorcery_config",
    "res_sorcery_memory",
    "res_sorcery_astdb",
    "res_pjsip",
    "res_pjsip_session",
    "res_pjsip_pubsub",
    "res_pjsip_sdp_rtp",
    "res_pjsip_caller_id",
    "res_pjsip_endpoint_identifier_ip",
    "chan_pjsip",
];

/// The least a proxy does that is to see the end of its calls.
fn kamailio_config(at: &Addresses) -> String {
    let Addresses { server, callee, .. } = at;
    format!(
        r#"#!KAMAILIO
debug=0
log_stderror=yes
fork=yes
children=2
disable_tcp=yes
auto_aliases=no
dns=no
rev_dns=no
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
listen=udp:{server}
request_route {{
    if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
    if (is_method("OPTIONS")) {{ sl_send_reply("200", "OK"); exit; }}
    if (is_method("CANCEL")) {{ if (t_check_trans()) t_relay(); exit; }}
    if (has_totag()) {{
        if (loose_route()) {{ t_relay(); exit; }}
        if (is_method("ACK") && t_check_trans()) {{ t_relay(); exit; }}
        sl_send_reply("404", "Not Here");
        exit;
    }}
    t_check_trans();
    record_route();
    $du = "sip:{callee}";
    if (!t_relay()) sl_reply_error();
}}
"#
    )
}
