#!/bin/bash
# Runs as root inside the container, when systemd has booted it. Prints facts as `name value` on
# standard output, and ends with `done`; everything else goes to standard error.
set -eu
trap 'systemctl poweroff --no-block' EXIT
exec 3>&1 1>&2
set -x
fact() { echo "$@" >&3; }

export CONFD_SERVERS=127.0.0.1 CONFD_KEY_FILE=/var/lib/ganeti/hmac.key DEBIAN_FRONTEND=noninteractive
first=ganeti-confd_0.1.0-1_amd64.deb second=ganeti-confd_0.1.0-2_amd64.deb
units="ganeti-confd.socket ganeti-confd.service"

# Programs to ask with while the package is not installed.
mkdir /run/tools
dpkg-deb --extract /share/$first /run/tools
ask() { /run/tools/usr/bin/confdctl --timeout 5s query master; }

# Runs the commands of a block in docs/operations.md.
documented() { (cd /share && bash -eux "/share/$1.sh"); }

states() { systemctl "$1" $units | tr '\n' ' ' || true; }
confd_pid() { cat /run/ganeti/ganeti-confd.pid; }
# The program that answers.
program() { readlink "/proc/$(confd_pid)/exe"; }

cluster_files() {
    install -d -o gnt-masterd -g gnt-masterd -m 755 /var/lib/ganeti
    install -o gnt-masterd -g gnt-confd -m 640 /share/hmac.key /share/config.data /var/lib/ganeti
}

# Sends 2,000 queries a second to the service while a command runs.
under_load() {
    local name=$1
    shift
    /run/tools/usr/bin/confdctl bench --rate 2000 --requests 16000 --warm-up 0s --lost-after 20s \
        --quiet --json >"/share/$name.json" &
    local bench=$!
    sleep 0.5
    "$@"
    wait $bench || true
}

# Ganeti's package with a higher version, with the programs and manual pages of the installed one.
repacked_ganeti() {
    local new=/run/repacked file
    mkdir -p $new/DEBIAN
    dpkg-query --show --showformat 'Package: ${Package}\nVersion: ${Version}+1
Architecture: ${Architecture}\nMaintainer: ${Maintainer}\nDepends: ${Depends}
Description: repacked\n' ganeti >$new/DEBIAN/control
    dpkg -L ganeti | grep ^/usr/ | while read -r file; do
        if [ -e "$file.ganeti" ] || [ -L "$file.ganeti" ]; then
            install -d "$new${file%/*}"
            cp -a "$file.ganeti" "$new$file"
        elif [ -L "$file" ] || [ -f "$file" ]; then
            install -d "$new${file%/*}"
            cp -a "$file" "$new$file"
        fi
    done
    dpkg-deb --build $new "$1"
}

on_a_plain_host() {
    dpkg -i /share/$first
    fact plain-states "$(states is-active)"
    fact accounts "$(id -nG gnt-confd)"
    cluster_files
    systemctl start $units
    fact plain-master "$(ask)"
    fact plain-owner "$(stat -c %U "/proc/$(confd_pid)")"
    # The example for hosts without Ganeti.
    cp /usr/share/doc/ganeti-confd/examples/logrotate /run/rotate
    dpkg -P ganeti-confd
    fact plain-after "$(ss -Hulpn 'sport = 1814' | wc -l)" "$(ls /usr/sbin/ganeti-confd* | wc -l)"
}

on_a_node() {
    # Ganeti's daemon looks up its own host's name.
    echo "127.0.1.1 $(hostname)" >>/etc/hosts
    cluster_files
    /usr/lib/ganeti/ensure-dirs
    /usr/lib/ganeti/daemon-util start ganeti-confd
    timeout 20 sh -c "until /run/tools/usr/bin/confdctl --timeout 1s query ping; do sleep 0.1; done"
    fact stock "$(program)" "$(ask)"
    # For a daemon that runs.
    fact start-status "$(/usr/lib/ganeti/daemon-util start ganeti-confd || echo "$?")"

    # 1. Replace Ganeti's daemon.
    documented install
    fact installed "$(program)" "$(ask)"
    fact installed-states "$(states is-active)" "$(states is-enabled)"
    fact diverted "$(dpkg-divert --list ganeti-confd | wc -l)" \
        "$(readlink /usr/sbin/ganeti-confd.ganeti)"
    fact manual "$(man --path ganeti-confd)" "$(man ganeti-confd | grep -q keep-last-good && echo own)"
    fact daemon-util "$(/usr/lib/ganeti/daemon-util check ganeti-confd && echo running)"
    fact logrotate "$(logrotate --debug /etc/logrotate.conf 2>&1 | grep -ci duplicate)"
    fact listeners "$(ss -Hulpn 'sport = 1814' | wc -l)"

    # Ganeti's init script stops and starts its daemons, also when Ganeti is upgraded.
    /usr/lib/ganeti/daemon-util stop ganeti-confd
    # The pid file is removed at the end of a daemon.
    timeout 20 sh -c "until [ -s /run/ganeti/ganeti-confd.pid ] &&
        systemctl --quiet is-active ganeti-confd.service; do sleep 0.1; done"
    fact start-status "$(/usr/lib/ganeti/daemon-util start ganeti-confd || echo "$?")"
    fact init-script "$(program)" "$(ask)"
    # An upgrade of Ganeti leaves the diversion alone.
    repacked_ganeti /run/ganeti.deb
    dpkg -i /run/ganeti.deb
    fact ganeti-upgraded "$(dpkg-query --show --showformat '${Version}' ganeti)" "$(program)" \
        "$(readlink /usr/sbin/ganeti-confd.ganeti)"

    # 2. An upgrade restarts the service and leaves the socket alone.
    since() { systemctl show --value --property ActiveEnterTimestampMonotonic "$1"; }
    local pid socket
    pid=$(confd_pid) socket=$(since ganeti-confd.socket)
    under_load upgrade documented upgrade
    fact upgraded "$(dpkg-query --show --showformat '${Version}' ganeti-confd)"
    [ "$pid" != "$(confd_pid)" ]
    fact socket-kept "$([ "$socket" = "$(since ganeti-confd.socket)" ] && echo yes)"

    # 3. Removal gives Ganeti's daemon back.
    documented remove
    timeout 20 sh -c "until /run/tools/usr/bin/confdctl --timeout 1s query ping; do sleep 0.1; done"
    fact removed "$(program)" "$(ask)"
    fact removed-diversions "$(dpkg-divert --list ganeti-confd | wc -l)"
    fact removed-conffile "$(ls /etc/default/ganeti-confd)"

    # 4. Installed again, then purged.
    dpkg -i /share/$second
    fact again "$(program)" "$(ask)" "$(states is-active)"
    # With disabled units, Ganeti's init script runs the daemon. Back to the version before.
    systemctl disable --now $units
    /usr/lib/ganeti/daemon-util start ganeti-confd
    pid=$(confd_pid)
    dpkg -i /share/$first
    timeout 20 sh -c "until /run/tools/usr/bin/confdctl --timeout 1s query ping; do sleep 0.1; done"
    [ "$pid" != "$(confd_pid)" ]
    fact disabled "$(program)" "$(ask)" "$(states is-active)"
    dpkg -P ganeti-confd
    timeout 20 sh -c "until /run/tools/usr/bin/confdctl --timeout 1s query ping; do sleep 0.1; done"
    fact purged "$(program)" "$(ask)"
    fact purged-files "$(find /etc /usr /lib -name '*ganeti-confd*' -newer /share/$first | wc -l)" \
        "$(find /etc/systemd -name 'ganeti-confd*' | wc -l)" "$(ls /var/lib/ganeti/hmac.key)"
}

if [ -e /usr/lib/ganeti/daemon-util ]; then on_a_node; else on_a_plain_host; fi
fact done
