// Package sighting finds out who attacked, and when, in the logs of honeypots,
// sensors and services, and in lists and reports.
//
// A [Reader] reads a text line by line and returns the source of each line. It
// reads by field: in a record that says which address is the source, it takes
// that address and never the destination, the sensor, the next hop, a forwarder,
// a version or a serial number. Formats are recognized line by line, so a file
// may mix them:
//
//   - JSON, one object a line, in an array, pretty-printed or behind a syslog
//     header, by the names of its keys: Cowrie, OpenCanary and the other
//     honeypots of T-Pot, Suricata, Zeek, ECS, cloud audit logs;
//   - columns that a header names: Zeek, W3C (IIS, CloudFront), VPC flow logs,
//     CSV;
//   - key=value, CEF, LEEF, netfilter's SRC=, Cisco ASA and PIX, pfSense,
//     Palo Alto Networks;
//   - sshd, endlessh, web access and error logs, mail, FTP, DNS, SIP and
//     database servers, PAM, tcpdump, fail2ban;
//   - everything else by the words around an address ("from", "to", an arrow),
//     and lists and reports, also defanged (1[.]2[.]3[.]4).
//
// Gzip and UTF-16 are decoded. Binary files are rejected by name ([BinaryError]).
//
// # What is not taken
//
// An address that [Options.Allow] refuses is not taken: by default every address
// that is not globally reachable. A source on our own side (an answer that a
// sensor marks as sent to the client, a connection that we opened) is not taken
// either, and nor is the other side of it. The [Report] counts what was not taken
// and names the first of each kind.
//
// An attacker chooses names of users, names of hosts and versions, and may write
// the address of somebody else there, as in src=192.0.2.1. For sshd and the other
// well-known formats, the address that the program itself wrote counts. In other
// text without fields, such a name may still be mistaken for the source.
//
// Behind a forwarder, such as a reverse proxy, the source is the address that
// the connection came from, unless Allow refuses it; then it is the last
// forwarded address that Allow accepts.
//
// # Limits
//
// A record of JSON may have 1 MiB and a line of text 64 KiB. Of a longer JSON
// record the first MiB counts, and then the records inside it; a longer line is
// read in pieces. The memory of a Reader does not grow with its input.
package sighting
