package bustest_test

import (
	"bytes"
	"context"
	"errors"
	"strings"

	"github.com/decnet/enrich/bus"
)

// accepting returns a bug that takes what is invalid for the event or pattern
// "valid".
func accepting(topic func(string) bool) func(b *broken) {
	return func(b *broken) {
		b.publish = func(ctx context.Context, ev bus.Event) error {
			if bus.ValidateTopic(ev.Topic) != nil && topic(ev.Topic) {
				ev.Topic = "valid"
			}
			return b.Bus.Publish(ctx, ev)
		}
		b.subscribe = func(ctx context.Context, p string) (bus.Subscription, error) {
			if bus.ValidatePattern(p) != nil && topic(p) {
				p = "valid"
			}
			return b.Bus.Subscribe(ctx, p)
		}
	}
}

// swallowing drops what is invalid without a word.
func swallowing(b *broken) {
	b.publish = func(ctx context.Context, ev bus.Event) error {
		if err := b.Bus.Publish(ctx, ev); !errors.Is(err, bus.ErrInvalid) {
			return err
		}
		return nil
	}
}

// complaining refuses what is invalid with an error of its own.
func complaining(b *broken) {
	b.publish = func(ctx context.Context, ev bus.Event) error {
		if err := b.Bus.Publish(ctx, ev); !errors.Is(err, bus.ErrInvalid) {
			return err
		}
		return errOther
	}
	b.subscribe = func(ctx context.Context, p string) (bus.Subscription, error) {
		sub, err := b.Bus.Subscribe(ctx, p)
		if err != nil {
			return nil, errOther
		}
		return sub, nil
	}
}

// acceptingPayload delivers payloads that are no objects.
func acceptingPayload(bad func([]byte) bool) func(b *broken) {
	return publishing(func(ev *bus.Event) bool {
		if bad(ev.Payload) {
			ev.Payload = nil
		}
		return true
	})
}

var refusalBugs = bugs{
	"InvalidTopic": {
		"empty accepted":     accepting(func(s string) bool { return s == "" }),
		"wildcards accepted": accepting(func(s string) bool { return strings.ContainsAny(s, "*>") }),
		"spaces accepted":    accepting(func(s string) bool { return strings.ContainsAny(s, " \t\n") }),
		"empty tokens":       accepting(func(s string) bool { return strings.Contains(s, "..") }),
		"not UTF-8":          accepting(func(s string) bool { return strings.Contains(s, "\xff") }),
		"too long":           accepting(func(s string) bool { return len(s) > bus.MaxTopic }),
		"dropped in silence": swallowing,
		"another error":      complaining,
		"refused after all": func(b *broken) {
			b.publish = func(ctx context.Context, ev bus.Event) error {
				err := b.Bus.Publish(ctx, ev)
				if err != nil {
					ev.Topic = "valid"
					_ = b.Bus.Publish(ctx, ev)
				}
				return err
			}
		},
		"long ones refused": func(b *broken) {
			b.publish = func(ctx context.Context, ev bus.Event) error {
				if len(ev.Topic) > 200 {
					return bus.ErrInvalid
				}
				return b.Bus.Publish(ctx, ev)
			}
		},
	},
	"InvalidPattern": {
		"empty accepted":     accepting(func(s string) bool { return s == "" }),
		"wildcards anywhere": accepting(func(s string) bool { return strings.ContainsAny(s, "*>") }),
		"spaces accepted":    accepting(func(s string) bool { return strings.ContainsAny(s, " \t\n") }),
		"too long":           accepting(func(s string) bool { return len(s) > bus.MaxTopic }),
		"another error":      complaining,
	},
	"InvalidPayload": {
		"array accepted":     acceptingPayload(func(p []byte) bool { return bytes.HasPrefix(p, []byte("[")) }),
		"null accepted":      acceptingPayload(func(p []byte) bool { return string(p) == "null" }),
		"no JSON accepted":   acceptingPayload(func(p []byte) bool { return string(p) == "{'a':1}" }),
		"two accepted":       acceptingPayload(func(p []byte) bool { return bytes.Contains(p, []byte("}{")) }),
		"too long accepted":  acceptingPayload(func(p []byte) bool { return len(p) > bus.MaxPayload }),
		"1E400 accepted":     acceptingPayload(func(p []byte) bool { return bytes.Contains(p, []byte("1E400")) }),
		"dropped in silence": swallowing,
		"another error":      complaining,
		"delivered all the same": func(b *broken) {
			b.publish = func(ctx context.Context, ev bus.Event) error {
				err := b.Bus.Publish(ctx, ev)
				if err != nil {
					ev.Payload = nil
					_ = b.Bus.Publish(ctx, ev)
				}
				return err
			}
		},
	},
	"CancelledContext": {
		"ignored by Publish": func(b *broken) {
			b.publish = func(ctx context.Context, ev bus.Event) error {
				return b.Bus.Publish(context.WithoutCancel(ctx), ev)
			}
		},
		"ignored by Subscribe": func(b *broken) {
			b.subscribe = func(ctx context.Context, p string) (bus.Subscription, error) {
				return b.Bus.Subscribe(context.WithoutCancel(ctx), p)
			}
		},
		"another error": func(b *broken) {
			b.publish = func(ctx context.Context, ev bus.Event) error {
				if ctx.Err() != nil {
					return bus.ErrClosed
				}
				return b.Bus.Publish(ctx, ev)
			}
		},
		"waits": func(b *broken) {
			b.publish = func(ctx context.Context, ev bus.Event) error {
				<-b.done
				return ctx.Err()
			}
		},
	},
	"ContextOfSubscribe": {
		"ends the subscription": func(b *broken) {
			b.subscribe = func(ctx context.Context, p string) (bus.Subscription, error) {
				sub, err := b.Bus.Subscribe(ctx, p)
				if err == nil {
					context.AfterFunc(ctx, func() { _ = sub.Close() })
					b.publish = func(ctx context.Context, ev bus.Event) error {
						drain(sub) // until it is closed
						return b.Bus.Publish(ctx, ev)
					}
				}
				return sub, err
			}
		},
	},
}

var slowBugs = bugs{
	"PublishNeverWaits": {
		"waits": waiting,
		"fails": func(b *broken) {
			n := 0
			b.publish = func(ctx context.Context, ev bus.Event) error {
				if n++; n > buffer {
					return errOther
				}
				return b.Bus.Publish(ctx, ev)
			}
		},
	},
	"OldestDropped": {
		"newest dropped": newestDropped,
		"all dropped": func(b *broken) {
			b.wrap = func(_ string, sub bus.Subscription) bus.Subscription {
				if len(b.subs) == 0 {
					n := 0
					b.publish = func(ctx context.Context, ev bus.Event) error {
						if n++; n == 4*buffer { // the last one
							for len(sub.Events()) > 0 {
								<-sub.Events()
							}
						}
						return b.Bus.Publish(ctx, ev)
					}
				}
				return sub
			}
		},
		"none dropped": func(b *broken) {
			b.wrap = func(_ string, sub bus.Subscription) bus.Subscription {
				s := newSubscription(sub)
				events := make(chan bus.Event, 100*buffer)
				b.mu.Lock()
				defer b.mu.Unlock()
				publish := b.publish
				b.publish = func(ctx context.Context, ev bus.Event) error {
					events <- ev
					return publish(ctx, ev)
				}
				s.events = func() <-chan bus.Event { return events }
				return s
			}
		},
		"ended":   ending,
		"swapped": holdBack,
	},
	"SlowDelaysNobody": {
		"waits":          waiting,
		"newest dropped": newestDropped,
		"all end":        ending,
		"shared buffer": func(b *broken) { // the slow one's events take the place of the quick one's
			n := 0
			publishing(func(*bus.Event) bool { n++; return n <= buffer })(b)
		},
	},
}

// stuck reports whether some subscription holds as much as it can.
func (b *broken) stuck() bool {
	for _, sub := range b.subs {
		if len(sub.Events()) == buffer {
			return true
		}
	}
	return false
}

// waiting waits for a subscriber that does not keep up.
func waiting(b *broken) {
	b.publish = func(ctx context.Context, ev bus.Event) error {
		if b.stuck() {
			<-b.done
		}
		return b.Bus.Publish(ctx, ev)
	}
}

// newestDropped drops an event if a subscriber has no place for it.
func newestDropped(b *broken) {
	b.publish = func(ctx context.Context, ev bus.Event) error {
		if b.stuck() {
			return nil
		}
		return b.Bus.Publish(ctx, ev)
	}
}

// ending ends the subscriptions when one does not keep up.
func ending(b *broken) {
	b.publish = func(ctx context.Context, ev bus.Event) error {
		if b.stuck() {
			b.Bus.Lose()
			return nil
		}
		return b.Bus.Publish(ctx, ev)
	}
}
