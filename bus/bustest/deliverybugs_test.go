package bustest_test

import (
	"context"
	"encoding/json"
	"strings"
	"time"
	"unicode"

	"github.com/decnet/enrich/bus"
)

// publishing returns a bug that changes what is published, or with false keeps
// it from being published.
func publishing(change func(ev *bus.Event) bool) func(b *broken) {
	return func(b *broken) {
		b.publish = func(ctx context.Context, ev bus.Event) error {
			if !change(&ev) {
				return nil
			}
			return b.Bus.Publish(ctx, ev)
		}
	}
}

// subscribing returns a bug that changes the pattern.
func subscribing(change func(pattern string) string) func(b *broken) {
	return func(b *broken) {
		b.subscribe = func(ctx context.Context, pattern string) (bus.Subscription, error) {
			return b.Bus.Subscribe(ctx, change(pattern))
		}
	}
}

// holdBack publishes every second event before the one that came before it.
func holdBack(b *broken) {
	var held *bus.Event
	b.publish = func(ctx context.Context, ev bus.Event) error {
		b.mu.Lock()
		defer b.mu.Unlock()
		if held == nil {
			held = &ev
			return nil
		}
		first := *held
		held = nil
		if err := b.Bus.Publish(ctx, ev); err != nil {
			return err
		}
		return b.Bus.Publish(ctx, first)
	}
}

// nth returns a bug that leaves out every nth event.
func everyNthLost(nth int) func(b *broken) {
	return func(b *broken) {
		n := 0
		publishing(func(*bus.Event) bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			n++
			return n%nth != 0
		})(b)
	}
}

// twice publishes every event a second time.
func twice(b *broken) {
	b.publish = func(ctx context.Context, ev bus.Event) error {
		if err := b.Bus.Publish(ctx, ev); err != nil {
			return err
		}
		return b.Bus.Publish(ctx, ev)
	}
}

// onePerTopic delivers each event to the first subscription that it matches.
func onePerTopic(b *broken) {
	b.wrap = func(pattern string, sub bus.Subscription) bus.Subscription {
		if len(b.subs) == 0 {
			return sub
		}
		s := newSubscription(sub)
		never := make(chan bus.Event)
		s.events = func() <-chan bus.Event { return never }
		return s
	}
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r > unicode.MaxASCII }) < 0
}

var deliveryBugs = bugs{
	"Wildcards": {
		"one * is many tokens": subscribing(func(p string) string {
			if strings.HasSuffix(p, ".*") {
				return strings.TrimSuffix(p, "*") + ">"
			}
			return p
		}),
		"> is one token": subscribing(func(p string) string { return strings.ReplaceAll(p, ">", "*") }),
		"* means anything": subscribing(func(p string) string {
			if strings.HasPrefix(p, "*") {
				return ">"
			}
			return p
		}),
		"no wildcards": func(b *broken) {
			b.subscribe = func(ctx context.Context, p string) (bus.Subscription, error) {
				return b.Bus.Subscribe(ctx, strings.NewReplacer("*", "star", ">", "gt").Replace(p))
			}
		},
		"upper case is lower case": publishing(func(ev *bus.Event) bool { ev.Topic = strings.ToLower(ev.Topic); return true }),
		"ASCII only": publishing(func(ev *bus.Event) bool {
			ev.Topic = strings.ReplaceAll(ev.Topic, "μ", "?")
			return true
		}),
		"matches nothing": subscribing(func(string) string { return "nothing" }),
	},
	"Characters": {
		"refused": func(b *broken) {
			b.publish = func(ctx context.Context, ev bus.Event) error {
				if !isASCII(ev.Topic) {
					return bus.ErrInvalid
				}
				return b.Bus.Publish(ctx, ev)
			}
		},
		"cut": publishing(func(ev *bus.Event) bool {
			ev.Topic = strings.TrimSuffix(ev.Topic, "💀") + "?"
			return true
		}),
		"lost": publishing(func(ev *bus.Event) bool { return isASCII(ev.Topic) }),
	},
	"OverlappingPatterns": {
		"twice":              twice,
		"to the first alone": onePerTopic,
	},
	"LiveOnReturn": {
		"live later": func(b *broken) {
			fresh := 0
			b.wrap = func(_ string, sub bus.Subscription) bus.Subscription { fresh = 1; return sub }
			publishing(func(*bus.Event) bool { fresh--; return fresh < 0 })(b)
		},
		"another channel each time": func(b *broken) {
			b.wrap = func(_ string, sub bus.Subscription) bus.Subscription {
				s := newSubscription(sub)
				s.events = func() <-chan bus.Event {
					events := make(chan bus.Event, 1)
					select {
					case ev := <-sub.Events():
						events <- ev
					default:
					}
					return events
				}
				return s
			}
		},
		"error while alive": func(b *broken) {
			b.wrap = func(_ string, sub bus.Subscription) bus.Subscription {
				s := newSubscription(sub)
				s.err = func() error { return bus.ErrClosed }
				return s
			}
		},
		"ended at once": func(b *broken) {
			b.wrap = func(_ string, sub bus.Subscription) bus.Subscription { _ = sub.Close(); return sub }
		},
		"no subscription": func(b *broken) { b.wrap = func(string, bus.Subscription) bus.Subscription { return nil } },
	},
	"Order": {
		"swapped":   holdBack,
		"one lost":  everyNthLost(7),
		"one twice": twice,
	},
	"OrderOfManyPublishers": {
		"one lost":  everyNthLost(7),
		"one twice": twice,
		"swapped": func(b *broken) {
			held := map[string]bus.Event{}
			b.publish = func(ctx context.Context, ev bus.Event) error {
				b.mu.Lock()
				defer b.mu.Unlock()
				first, ok := held[ev.Topic]
				if !ok {
					held[ev.Topic] = ev
					return nil
				}
				delete(held, ev.Topic)
				if err := b.Bus.Publish(ctx, ev); err != nil {
					return err
				}
				return b.Bus.Publish(ctx, first)
			}
		},
		"fails when busy": func(b *broken) {
			n := 0
			b.publish = func(ctx context.Context, ev bus.Event) error {
				b.mu.Lock()
				defer b.mu.Unlock()
				if n++; n == 5 {
					return bus.ErrLost
				}
				return b.Bus.Publish(ctx, ev)
			}
		},
	},
	"ManySubscribers": {
		"ten at most": func(b *broken) {
			b.subscribe = func(ctx context.Context, p string) (bus.Subscription, error) {
				if len(b.subs) >= 10 {
					return b.Bus.Subscribe(ctx, "nothing")
				}
				return b.Bus.Subscribe(ctx, p)
			}
		},
		"ten at most, refused": func(b *broken) {
			b.subscribe = func(ctx context.Context, p string) (bus.Subscription, error) {
				if len(b.subs) >= 10 {
					return nil, bus.ErrLost
				}
				return b.Bus.Subscribe(ctx, p)
			}
		},
		"everything": subscribing(func(string) string { return ">" }),
	},
}

var envelopeBugs = bugs{
	"Envelope": {
		"pattern as topic": func(b *broken) {
			b.publish = func(ctx context.Context, ev bus.Event) error {
				ev.Topic = "envelope.topic"
				return b.Bus.Publish(ctx, ev)
			}
		},
		"type lost":  publishing(func(ev *bus.Event) bool { ev.Type = ""; return true }),
		"ID lost":    publishing(func(ev *bus.Event) bool { ev.ID = ""; return true }),
		"ID changed": publishing(func(ev *bus.Event) bool { ev.ID = strings.ToUpper(ev.ID); return true }),
		"time lost":  publishing(func(ev *bus.Event) bool { ev.Time = time.Time{}; return true }),
		"whole seconds": publishing(func(ev *bus.Event) bool {
			ev.Time = ev.Time.Truncate(time.Second)
			return true
		}),
		"an ID per subscriber": func(b *broken) {
			b.wrap = func(_ string, sub bus.Subscription) bus.Subscription {
				n := len(b.subs)
				s := newSubscription(sub)
				events := make(chan bus.Event, 1)
				go func() {
					for ev := range sub.Events() {
						ev.ID = strings.Repeat("f", n+1)
						events <- ev
					}
				}()
				s.events = func() <-chan bus.Event { return events }
				return s
			}
		},
	},
	"EnvelopeFilledIn": {
		"one ID for all": publishing(func(ev *bus.Event) bool { ev.ID = "1"; return true }),
		"time of 1970":   publishing(func(ev *bus.Event) bool { ev.Time = time.Unix(0, 0); return true }),
		"local time as UTC": publishing(func(ev *bus.Event) bool {
			ev.Time = time.Now().Add(2 * time.Hour)
			return true
		}),
	},
	"Payload": {
		"escaped": publishing(func(ev *bus.Event) bool { ev.Payload, _ = json.Marshal(ev.Payload); return true }),
		"through floating point": publishing(func(ev *bus.Event) bool {
			var v any
			_ = json.Unmarshal(ev.Payload, &v)
			ev.Payload, _ = json.Marshal(v)
			return true
		}),
		"large ones lost": publishing(func(ev *bus.Event) bool { return len(ev.Payload) < 64<<10 }),
		"cut": publishing(func(ev *bus.Event) bool {
			if len(ev.Payload) > 64<<10 {
				ev.Payload = json.RawMessage(`{"truncated":true}`)
			}
			return true
		}),
		"ASCII only": publishing(func(ev *bus.Event) bool {
			ev.Payload = json.RawMessage(strings.Map(func(r rune) rune { return min(r, '~') }, string(ev.Payload)))
			return true
		}),
	},
	"EmptyPayload": {
		"null": func(b *broken) {
			b.wrap = func(_ string, sub bus.Subscription) bus.Subscription {
				s := newSubscription(sub)
				events := make(chan bus.Event, 1)
				go func() {
					for ev := range sub.Events() {
						ev.Payload = json.RawMessage("null")
						events <- ev
					}
				}()
				s.events = func() <-chan bus.Event { return events }
				return s
			}
		},
		"lost": publishing(func(ev *bus.Event) bool { return len(ev.Payload) > 0 }),
		"refused": func(b *broken) {
			b.publish = func(ctx context.Context, ev bus.Event) error {
				if len(ev.Payload) == 0 {
					return bus.ErrInvalid
				}
				return b.Bus.Publish(ctx, ev)
			}
		},
	},
}
