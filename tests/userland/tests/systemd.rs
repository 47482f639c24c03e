//! Debian as it starts by itself: systemd, a login at its prompt, an orderly end.

use bulkhead_userland::Guest;

fn boots_logs_in_and_powers_off(cpus: u32) {
    let Some(guest) = Guest::new(cpus) else { return };
    let mut console = guest.start("/lib/systemd/systemd");
    console.wait_for("bulkhead login: ");
    console.say("root");
    console.wait_for("Password: ");
    console.say("bulkhead");
    console.wait_for("# ");
    // What is typed is echoed: it must differ from what is waited for.
    console.say("echo cpus-$(nproc)-end; echo state-$(systemctl is-system-running --wait)-end");
    console.wait_for(&format!("cpus-{cpus}-end"));
    console.wait_for("state-running-end");
    console.say("echo failed-$(systemctl --failed --no-legend | wc -l)-end; echo of-$(id -un)-end");
    console.wait_for("failed-0-end");
    console.wait_for("of-root-end");
    console.say("systemctl poweroff");
    let (code, said) = console.end();
    assert_eq!(code, Some(0), "{said}");
    guest.assert_disks_are_clean();
}

#[test]
fn systemd_boots_to_a_login_on_one_cpu() {
    boots_logs_in_and_powers_off(1);
}

#[test]
fn systemd_boots_to_a_login_on_four_cpus() {
    boots_logs_in_and_powers_off(4);
}
