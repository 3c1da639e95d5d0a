package natsbus

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/decnet/enrich/bus"
)

// pack returns the message that publishes ev.
func (b *Bus) pack(ev bus.Event) (*nats.Msg, error) {
	if err := ev.Validate(); err != nil {
		return nil, err
	}
	if reserved(b.prefix + ev.Topic) {
		return nil, fmt.Errorf("%w topic %q: NATS keeps such subjects for itself", bus.ErrInvalid, ev.Topic)
	}
	ev.Complete()
	e := bus.NewEnvelope(&ev)
	return &nats.Msg{
		Subject: b.prefix + ev.Topic,
		Header:  nats.Header{nats.MsgIdHdr: {headerID(ev.ID)}},
		Data:    e.Append(nil, ev.Topic),
	}, nil
}

// open returns the event in a message. An ID that is missing in the envelope is
// the one in the header.
func open(topic string, m *nats.Msg) (bus.Event, error) {
	e, err := bus.ParseEnvelope(m.Data)
	if err != nil {
		return bus.Event{}, err
	}
	ev, err := e.Event(topic)
	if err != nil {
		return bus.Event{}, err
	}
	if ev.ID == "" {
		ev.ID = m.Header.Get(nats.MsgIdHdr)
	}
	ev.Complete()
	return ev, nil
}

// headerID returns id as it can stand in a header: IDs that differ, differ
// there.
func headerID(id string) string {
	odd := func(r rune) bool { return r <= ' ' || r > '~' }
	if id[0] == '"' || strings.ContainsFunc(id, odd) {
		return strconv.QuoteToASCII(id)
	}
	return id
}
