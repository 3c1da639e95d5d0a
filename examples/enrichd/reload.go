package main

import (
	"context"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// hangups receives SIGHUP, which never ends the program.
var hangups = make(chan os.Signal, 1)

// ownNetworks returns the operator's networks as they are now.
func (d *daemon) ownNetworks() []netip.Prefix { return *d.ownNow.Load() }

// reloadOnHangup reads again what came from files after each SIGHUP, until ctx is
// done.
func (d *daemon) reloadOnHangup(ctx context.Context, o options, lookup lookup) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			d.reload(o, lookup)
		}
	}
}

// reload reads keys, secrets of webhooks and own networks again and uses them from now
// on. Whatever else has changed needs a restart, and is logged.
func (d *daemon) reload(o options, lookup lookup) {
	c, err := readConfig(o, lookup)
	if err != nil {
		d.log.Error("SIGHUP: nothing has changed, because what is in the files is wrong", "error", err)
		return
	}
	var changed, restart []string
	for i := range d.sources {
		s := &d.sources[i]
		j := slices.IndexFunc(c.sources, func(other source) bool { return other.name == s.name })
		if j >= 0 && c.sources[j].key != *s.live.Load() {
			s.live.Store(&c.sources[j].key)
			changed = append(changed, "the key of "+s.name)
		}
	}
	for i, now := range c.webhooks {
		was := &d.config.webhooks[i]
		switch {
		case slices.Equal(now.Secrets, was.Secrets):
		case d.posts[i].SetSecrets(now.Secrets) == nil: // readConfig has looked at them
			was.Secrets = now.Secrets
			changed = append(changed, "the secret of the webhook "+now.Host())
		}
	}
	if !slices.Equal(c.own, *d.ownNow.Load()) {
		d.ownNow.Store(&c.own)
		changed = append(changed, "own networks")
	}
	if c.database.String() != d.database.String() || c.database.password != d.database.password {
		restart = append(restart, "the database")
	}
	if c.bus != d.bus {
		restart = append(restart, "the bus")
	}
	if !slices.Equal(c.names(), d.names()) {
		restart = append(restart, "the providers")
	}
	listed := func(list []string) string {
		if len(list) == 0 {
			return "nothing"
		}
		return strings.Join(list, ", ")
	}
	d.log.Info("SIGHUP: files were read again", "changed", listed(changed), "differs_until_restart", listed(restart),
		"unchanged", "flags, environment variables, database, bus, and which providers are queried at which URL and quota")
	d.worker.Wake()
}
