package bustest

import (
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/decnet/enrich/bus"
)

// Topics are the topics that [Wildcards] is about. It must not be modified.
var Topics = []string{
	"attacker", "attacker.observed", "attacker.scored", "attacker.intel.enriched",
	"attackers.observed", "Attacker.observed", "attacker.observed.again",
	"system.enrich.health", "system.enrich.control", "system",
	"a", "a.b", "a.b.c", "b.a.c", "x.b", "x.b.c.d",
	"größe.μ", "größe.ν", "a-b_c:d/e$1", "0",
}

// Wildcard is a pattern and those of [Topics] that match it.
type Wildcard struct {
	Pattern string
	Matches []string
}

// Wildcards says what patterns mean, for [bus.Match] and every bus alike. It
// must not be modified.
var Wildcards = []Wildcard{
	{"attacker.observed", []string{"attacker.observed"}},
	{"attacker.*", []string{"attacker.observed", "attacker.scored"}},
	{"attacker.>", []string{"attacker.observed", "attacker.scored", "attacker.intel.enriched", "attacker.observed.again"}},
	{"attacker.intel.*", []string{"attacker.intel.enriched"}},
	{"attacker.*.enriched", []string{"attacker.intel.enriched"}},
	{"*.observed", []string{"attacker.observed", "attackers.observed", "Attacker.observed"}},
	{"*", []string{"attacker", "system", "a", "a-b_c:d/e$1", "0"}},
	{"*.*", []string{"attacker.observed", "attacker.scored", "attackers.observed", "Attacker.observed", "a.b", "x.b", "größe.μ", "größe.ν"}},
	{"*.>", []string{"attacker.observed", "attacker.scored", "attacker.intel.enriched", "attackers.observed", "Attacker.observed",
		"attacker.observed.again", "system.enrich.health", "system.enrich.control", "a.b", "a.b.c", "b.a.c", "x.b", "x.b.c.d", "größe.μ", "größe.ν"}},
	{"*.b.>", []string{"a.b.c", "x.b.c.d"}},
	{"*.*.c", []string{"a.b.c", "b.a.c"}},
	{"a.*.*", []string{"a.b.c"}},
	{"a", []string{"a"}},
	{"a.>", []string{"a.b", "a.b.c"}},
	{"größe.*", []string{"größe.μ", "größe.ν"}},
	{"größe.μ", []string{"größe.μ"}},
	{"a-b_c:d/e$1", []string{"a-b_c:d/e$1"}},
	{"nobody.*.publishes.>", nil},
	{">", Topics},
}

// wildcards publishes on every topic, and then on one for each pattern that
// tells its subscriber that everything has arrived.
func wildcards(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	topics := f.carried(Topics)
	table := slices.DeleteFunc(slices.Clone(Wildcards), func(w Wildcard) bool { return !f.carries(w.Pattern) })
	subs := make([]bus.Subscription, len(table))
	ends := make([]string, len(table))
	for i, w := range table {
		subs[i] = f.subscribe(w.Pattern)
		ends[i] = strings.NewReplacer("*", "end", ">", "end.end").Replace(w.Pattern)
	}
	f.publish(append(slices.Clone(topics), ends...)...)
	for i, w := range table {
		var got []string
		for {
			ev := f.receive(subs[i])
			if n := number(f, ev); n >= len(topics) {
				if n-len(topics) >= i {
					break
				}
				continue // the end of an earlier pattern
			}
			got = append(got, ev.Topic)
		}
		if want := f.carried(inOrder(w.Matches)); !slices.Equal(got, want) {
			f.Errorf("pattern %q received %q, want %q", w.Pattern, got, want)
		}
	}
}

// carries reports whether the transport can carry a topic or pattern.
func (f *fixture) carries(s string) bool {
	return !f.h.ASCII || strings.IndexFunc(s, func(r rune) bool { return r > unicode.MaxASCII }) < 0
}

// carried returns those of the topics that the transport can carry.
func (f *fixture) carried(topics []string) []string {
	return slices.DeleteFunc(slices.Clone(topics), func(topic string) bool { return !f.carries(topic) })
}

// characters publishes on topics that are not ASCII.
func characters(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	for _, topic := range []string{"größe", "a.攻撃者.μ", "a.💀"} {
		if f.carries(topic) {
			sub := f.subscribe(topic)
			f.publish(topic)
			if ev := f.receive(sub); ev.Topic != topic {
				f.Errorf("topic %q arrived as %q", topic, ev.Topic)
			}
			continue
		}
		f.refuses("topic", bus.Event{Topic: topic})
		f.refusesPattern(topic)
		f.refusesPattern(topic + ".*")
	}
}

// inOrder returns those of Topics that are in matches.
func inOrder(matches []string) (topics []string) {
	for _, topic := range Topics {
		if slices.Contains(matches, topic) {
			topics = append(topics, topic)
		}
	}
	return topics
}

func overlappingPatterns(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	var subs []bus.Subscription
	for _, pattern := range []string{"a.b", "a.b", "a.*", "*.b", "a.>", ">"} {
		subs = append(subs, f.subscribe(pattern))
	}
	f.publish("a.b", "a.b", "a.b")
	for _, sub := range subs {
		for n := range 3 {
			f.receiveNumbered(sub, n)
		}
	}
}

func liveOnReturn(tb testing.TB, h Harness) {
	if h.Unacknowledged {
		tb.Skip("the transport cannot tell when a subscription is registered")
	}
	f := setUp(tb, h)
	for range 50 {
		sub := f.subscribe("attacker.*")
		f.alive(sub)
		if before := sub.Events(); sub.Events() != before {
			f.Fatal("Events returns one channel now and another then")
		}
		f.publish("attacker.observed")
		f.receiveNumbered(sub, 0)
		f.succeeds("Close of a subscription", sub.Close())
	}
}

func order(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	sub := f.subscribe("order.*")
	count := min(500, f.h.Buffer)
	f.publishAll(count, func(n int) bus.Event { return numbered([]string{"order.a", "order.b"}[n%2], n) })
	for n := range count {
		f.receiveNumbered(sub, n)
	}
}

func orderOfManyPublishers(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	sub := f.subscribe("order.*")
	topics := []string{"order.a", "order.b", "order.c", "order.d"}
	each := min(100, f.h.Buffer/len(topics))
	errs := make(chan error, len(topics))
	for _, topic := range topics {
		go func() {
			for n := range each {
				if err := f.peer.Publish(f.Context(), numbered(topic, n)); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range topics {
		if err := f.within("Publish", func() error { return <-errs }); err != nil {
			f.Fatalf("Publish: %v", err)
		}
	}
	next := make(map[string]int)
	for range each * len(topics) {
		ev := f.receive(sub)
		if n := number(f, ev); n != next[ev.Topic] {
			f.Fatalf("received number %d on %s, want number %d", n, ev.Topic, next[ev.Topic])
		}
		next[ev.Topic]++
	}
}

func manySubscribers(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	var subs []bus.Subscription
	for range 64 {
		subs = append(subs, f.subscribeOnly("many.*"))
	}
	if h.Unacknowledged {
		f.settle()
	}
	f.publish("many.a", "few.a", "many.b")
	for _, sub := range subs {
		f.receiveNumbered(sub, 0)
		f.receiveNumbered(sub, 2)
	}
}
