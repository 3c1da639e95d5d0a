package natsbus

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// reserved reports whether NATS keeps a subject or wildcard subject for itself:
// those that begin with a dollar sign, for its own services, and inboxes, for
// replies.
func reserved(subject string) bool {
	first, _, _ := strings.Cut(subject, ".")
	return strings.HasPrefix(first, "$") || first == "_INBOX"
}

// topic returns the topic that a subject stands for.
func (b *Bus) topic(subject string) string { return strings.TrimPrefix(subject, b.prefix) }

// splitURL returns the servers in a list of URLs that is separated by commas,
// and how to name them in messages. No part of the list is in the error,
// because there may be a password in it.
func splitURL(list string) (servers []string, names string, err error) {
	var shown []string
	for server := range strings.SplitSeq(list, ",") {
		server = strings.TrimSpace(server)
		if !strings.Contains(server, "://") {
			server = "nats://" + server
		}
		u, err := url.Parse(server)
		if err == nil && (u.Hostname() == "" || strings.Contains(u.Path, "@") || strings.ContainsAny(server, "#?")) {
			err = errors.New("no host, or what looks like one is part of a password")
		}
		if err != nil {
			return nil, "", fmt.Errorf("natsbus: Options.URL: server number %d is not like nats://host:4222; "+
				"characters other than letters and digits in a password have to be escaped", len(servers)+1)
		}
		switch u.Scheme {
		case "nats", "tls", "ws", "wss":
		default:
			return nil, "", fmt.Errorf("natsbus: Options.URL: server number %d has the scheme %q; it must be nats, tls, ws or wss",
				len(servers)+1, u.Scheme)
		}
		servers = append(servers, server)
		shown = append(shown, u.Scheme+"://"+u.Host)
	}
	return servers, strings.Join(shown, ","), nil
}
