package bustest

import (
	"fmt"
	"testing"

	"github.com/decnet/enrich/bus"
)

// Benchmark measures the buses that h makes, each property as a
// sub-benchmark, with payloads of about 400 bytes: how fast one publisher is
// with one subscriber and with 16, how fast many are together, and how long an
// event takes to arrive. Subscribers that read keep up as well as they can;
// what they lose is reported as the fraction lost/op.
func Benchmark(b *testing.B, h Harness) {
	for _, subscribers := range []int{0, 1, 16} {
		b.Run(fmt.Sprintf("Publish/subscribers=%d", subscribers), func(b *testing.B) {
			f := setUp(b, h)
			read := f.readers(subscribers)
			ev := measured()
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				if err := f.peer.Publish(b.Context(), ev); err != nil {
					b.Fatal(err)
				}
				n++
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
			if subscribers > 0 {
				b.ReportMetric(1-float64(read())/float64(n*subscribers), "lost/op")
			}
		})
	}
	b.Run("PublishParallel", func(b *testing.B) {
		f := setUp(b, h)
		f.readers(1)
		ev := measured()
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := f.peer.Publish(b.Context(), ev); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
	b.Run("RoundTrip", func(b *testing.B) {
		f := setUp(b, h)
		sub := f.subscribe("attacker.*")
		ev := measured()
		b.ReportAllocs()
		for b.Loop() {
			if err := f.peer.Publish(b.Context(), ev); err != nil {
				b.Fatal(err)
			}
			if _, open := <-sub.Events(); !open {
				b.Fatal(sub.Err())
			}
		}
	})
}

// readers starts subscribers that read all the time, and returns a function
// that ends them and returns how many events they received.
func (f *fixture) readers(count int) (stop func() int) {
	f.Helper()
	received := make(chan int, count)
	var subs []bus.Subscription
	for range count {
		sub := f.subscribe("attacker.*")
		subs = append(subs, sub)
		go func() {
			n := 0
			for range sub.Events() {
				n++
			}
			received <- n
		}()
	}
	return func() (total int) {
		for _, sub := range subs {
			_ = sub.Close()
		}
		for range count {
			total += <-received
		}
		return total
	}
}

// measured returns the event that is published in benchmarks.
func measured() bus.Event {
	text := `{"attacker_uuid":"3f0e8a36-98c4-4a53-9d7b-0f2f1a5a8d11","attacker_ip":"45.155.205.233","aggregate_verdict":"malicious",` +
		`"providers":["greynoise","abuseipdb","feodo","threatfox"],"abuseipdb_score":100,"abuseipdb_categories":[18,22,14],` +
		`"greynoise_classification":"malicious","greynoise_name":"unknown","greynoise_tags":["SSH Bruteforcer"],` +
		`"feodo_listed":false,"feodo_malware_family":null,"threatfox_listed":false}`
	return bus.Event{Topic: "attacker.observed", Type: "attacker.observed", Payload: []byte(text)}
}
