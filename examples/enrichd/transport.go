package main

import (
	"strings"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/bus/membus"
	"github.com/decnet/enrich/bus/natsbus"
	"github.com/decnet/enrich/bus/unixbus"
)

// The kinds of bus.
const (
	busOff    = "off"
	busUnix   = "unix"
	busNATS   = "nats"
	busMemory = "memory"
)

// busConfig says what carries events.
type busConfig struct {
	kind   string
	socket string // of a bus of kind unix
	url    string // of a bus of kind nats; may hold a password
}

// String names the bus, without a password.
func (c busConfig) String() string {
	switch c.kind {
	case busUnix:
		return "UNIX socket " + c.socket
	case busNATS:
		return "NATS"
	}
	return c.kind
}

// bus reads which bus to use.
func (e *environment) bus() busConfig {
	if !e.boolean("DECNET_BUS_ENABLED") {
		return busConfig{kind: busOff}
	}
	switch kind := strings.ToLower(e.text("DECNET_BUS_TYPE")); kind {
	case "", busUnix:
		c := busConfig{kind: busUnix, socket: e.text("DECNET_BUS_SOCKET")}
		if c.socket == "" {
			c.socket = unixbus.SocketPath()
		}
		return c
	case busNATS:
		c := busConfig{kind: busNATS, url: e.text("DECNET_NATS_URL")}
		if b, err := c.open(); err != nil {
			e.refuse("DECNET_NATS_URL: %w", err)
		} else {
			_ = b.Close() // never fails before it is used
		}
		return c
	case busMemory, "fake":
		return busConfig{kind: busMemory}
	default:
		e.refuse("DECNET_BUS_TYPE is %.40q; it must be unix, nats or memory", kind)
		return busConfig{kind: busOff}
	}
}

// open returns the bus, and nil if there is to be none. It connects when it is
// used.
func (c busConfig) open() (bus.Bus, error) {
	switch c.kind {
	case busUnix:
		return unixbus.New(unixbus.Options{Path: c.socket})
	case busNATS:
		return natsbus.New(natsbus.Options{URL: c.url})
	case busMemory:
		return membus.New(membus.Options{}), nil
	}
	return nil, nil
}
