#!/bin/bash
# Runs as root inside the container, when systemd has booted it. Prints facts as `name value` on
# standard output, and ends with `done`; everything else goes to standard error.
set -eu
trap 'systemctl poweroff --no-block' EXIT
exec 3>&1 1>&2
set -x
fact() { echo "$@" >&3; }

export CONFD_SERVERS=127.0.0.1 CONFD_KEY_FILE=/var/lib/ganeti/hmac.key
log=/var/log/ganeti/conf-daemon.log

# What Ganeti's package provides: accounts, directories, a key and a configuration.
id=7001
for name in gnt-masterd gnt-confd gnt-luxid gnt-rapi gnt-metad gnt-daemons gnt-admin; do
    echo "$name:x:$id:$id::/:/bin/false" >>/etc/passwd
    echo "$name:x:$id:" >>/etc/group
    id=$((id + 1))
done
install -d -o gnt-confd -g gnt-confd /var/lib/ganeti /var/log/ganeti /run/ganeti
install -o gnt-confd -g gnt-confd -m 600 /share/hmac.key /share/config.data /var/lib/ganeti
cp /share/ganeti-confd.service /share/ganeti-confd.socket /etc/systemd/system
# A short interval, so that a watchdog that is not fed acts during the test.
install -d /etc/systemd/system/ganeti-confd.service.d
printf '[Service]\nWatchdogSec=10s\n' >/etc/systemd/system/ganeti-confd.service.d/watchdog.conf
systemctl daemon-reload

pid() { systemctl show --value --property MainPID ganeti-confd.service; }
status_of() { sed -n "s/^$1:[[:space:]]*//p" "/proc/$(pid)/status"; }

# Sends 2,000 queries a second while the service is restarted $2 times. A query counts as lost if
# it has no reply after $3.
restart_under_load() {
    confdctl bench --rate 2000 --requests 12000 --warm-up 0s --lost-after "$3" --quiet --json \
        >"/share/$1.json" &
    local bench=$!
    sleep 0.5
    for _ in $(seq "$2"); do
        systemctl restart ganeti-confd.service
        sleep 0.2
    done
    # Lost queries may make its status 1; the report has their number.
    wait $bench || true
    fact "restarts-$1" "$2"
}

# 1. The service alone.
fact exposure "$(systemd-analyze security --no-pager ganeti-confd.service |
    sed -n 's/.*Overall exposure level for [^:]*: \([0-9.]*\).*/\1/p')"
systemctl start ganeti-confd.service
fact master "$(confdctl query master)"
fact engine "$(sed -n 's/.*, engine //p' $log | tail -n 1)"
fact user "$(stat -c %U "/proc/$(pid)")"
fact capabilities "$(status_of CapEff)" "$(status_of CapBnd)"
fact no-new-privileges "$(status_of NoNewPrivs)"
fact seccomp "$(status_of Seccomp)"
# daemon-util's check: the pid file and the process name.
start-stop-daemon --stop --signal 0 --quiet --pidfile /run/ganeti/ganeti-confd.pid \
    --name ganeti-confd
mv $log $log.1
systemctl reload ganeti-confd.service
timeout 20 sh -c "until grep -q 'Log file reopened' $log; do sleep 0.05; done"
# The status socket; the daemon's own containment, inside the unit's.
confdctl status
fact status "$(confdctl status --json | sed -n 's/.*"sandbox":{\([^}]*\)}.*/\1/p')"
fact socket-of-status "$(stat -c '%U %G %a' /run/ganeti/ganeti-confd.sock)"
fact status-line "$(systemctl show --value --property StatusText ganeti-confd.service)"
restart_under_load alone 5 2s
systemctl stop ganeti-confd.service
fact pid-file-after-stop "$(ls /run/ganeti)"

# The journal has the daemon's events with their priorities, and no second timestamp.
fact notices "$(journalctl --no-pager --output cat --unit ganeti-confd.service --priority 5..5 \
    SYSLOG_IDENTIFIER=ganeti-confd TARGET=ganeti_confd::notice | sort -u | tr '\n' ';')"
fact timestamps "$(journalctl --no-pager --output cat --unit ganeti-confd.service | grep -c UTC: || true)"

# 2. With the socket unit: a datagram starts the service, and restarts lose none.
systemctl start ganeti-confd.socket
before=$(systemctl is-active ganeti-confd.service || true)
confdctl query master
# Waits for the start that the query caused: the answer comes before the notification.
systemctl start ganeti-confd.service
fact before-and-after-a-query "$before" "$(systemctl is-active ganeti-confd.service)"
for engine in uring mmsg; do
    echo "CONFD_ARGS=--engine=$engine" >/etc/default/ganeti
    systemctl restart ganeti-confd.service
    fact serving "$(sed -n 's/.*udp, //p' $log | tail -n 1)"
    restart_under_load $engine 10 20s
done

# 3. Options that contradict the socket unit: the log has the remedy, and the port stays open.
echo "CONFD_ARGS=--workers=2" >/etc/default/ganeti
if systemctl restart ganeti-confd.service; then exit 1; fi
fact refused "$(journalctl --no-pager --output cat --unit ganeti-confd.service |
    grep '^ganeti-confd: the socket unit' | tail -n 1)"
fact error-in-journal "$(journalctl --no-pager --output cat --unit ganeti-confd.service \
    --priority err | grep -c '^ganeti-confd: the socket unit')"
fact socket "$(systemctl is-active ganeti-confd.socket)"
rm /etc/default/ganeti
fact recovered "$(confdctl query master)"

fact watchdog "$(journalctl --no-pager --output cat --unit ganeti-confd.service |
    grep -c 'Watchdog timeout' || true)"

# 4. A daemon that is stuck is replaced by another one.
printf '[Service]\nWatchdogSec=3s\nTimeoutStopSec=3s\n' \
    >/etc/systemd/system/ganeti-confd.service.d/watchdog.conf
systemctl daemon-reload
systemctl restart ganeti-confd.service
stuck=$(pid)
kill -STOP "$stuck"
for _ in $(seq 600); do
    new=$(pid)
    if [ "$new" != "$stuck" ] && [ "$new" != 0 ]; then break; fi
    sleep 0.1
done
fact replaced-by-watchdog "$(confdctl query master)" "$([ "$new" != "$stuck" ] && echo new)"
fact watchdog-timeouts "$(journalctl --no-pager --output cat --unit ganeti-confd.service |
    grep -c 'Watchdog timeout' || true)"

# 5. Stopping the socket unit as well closes the port.
systemctl stop ganeti-confd.socket ganeti-confd.service
fact listeners "$(ss -Hulpn 'sport = 1814' | wc -l)"
fact done
