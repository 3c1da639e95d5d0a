package natsbus_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/bus/natsbus"
)

// TestStream: a JetStream stream keeps an event that is published again once.
func TestStream(t *testing.T) {
	s := start(t, server.Options{JetStream: true, StoreDir: t.TempDir()})
	for name, address := range map[string]func(testing.TB) string{
		"own":       func(testing.TB) string { return s.url() },
		"installed": installed,
	} {
		t.Run(name, func(t *testing.T) {
			address := address(t)
			js, err := jetstream.New(client(t, address))
			require.NoError(t, err)
			below := prefix()
			name := strings.ReplaceAll(below, ".", "_")
			stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
				Name: name, Subjects: []string{below + ".>"}, Storage: jetstream.MemoryStorage,
			})
			require.NoError(t, err)
			defer func() { require.NoError(t, js.DeleteStream(t.Context(), name)) }()

			b := connect(t, natsbus.Options{URL: address, Prefix: below})
			again := connect(t, natsbus.Options{URL: address, Prefix: below})
			for _, id := range []string{"first", "second", "first", "größe\n", "größe\n", "second", "größe\t"} {
				ev := bus.Event{ID: id, Topic: "attacker.intel.enriched"}
				require.NoError(t, b.Publish(t.Context(), ev))
				require.NoError(t, again.Publish(t.Context(), ev))
			}
			require.NoError(t, b.Publish(t.Context(), bus.Event{ID: "last", Topic: "attacker.intel.enriched"}))
			var messages []string
			eventually(t, "the last event is in the stream", func() bool {
				messages = nil
				info, err := stream.Info(t.Context())
				require.NoError(t, err)
				for n := uint64(1); n <= info.State.LastSeq; n++ {
					m, err := stream.GetMsg(t.Context(), n)
					require.NoError(t, err)
					messages = append(messages, m.Header.Get(nats.MsgIdHdr))
				}
				return len(messages) > 0 && messages[len(messages)-1] == "last"
			})
			require.Equal(t, []string{"first", "second", `"gr\u00f6\u00dfe\n"`, `"gr\u00f6\u00dfe\t"`, "last"}, messages)
		})
	}
}

// TestWire is about what others see, and what is seen of others.
func TestWire(t *testing.T) {
	s := start(t, server.Options{})
	raw := client(t, s.url())
	seen, err := raw.SubscribeSync(">")
	require.NoError(t, err)
	require.NoError(t, raw.FlushTimeout(wait))

	b := connect(t, natsbus.Options{URL: s.url(), Prefix: "decnet.eu"})
	sub := subscribe(t, b, "attacker.>")
	at := time.Date(2026, 1, 1, 0, 0, 0, 250_000_000, time.UTC)
	require.NoError(t, b.Publish(t.Context(), bus.Event{
		ID: "0f", Topic: "attacker.observed", Type: "t", Time: at, Payload: []byte(`{"n": 1}`),
	}))
	m, err := seen.NextMsg(wait)
	require.NoError(t, err)
	require.Equal(t, "decnet.eu.attacker.observed", m.Subject)
	require.Equal(t, nats.Header{"Nats-Msg-Id": {"0f"}}, m.Header)
	require.Equal(t, `{"v":1,"id":"0f","topic":"attacker.observed","type":"t","ts":1767225600.250000,"payload":{"n": 1}}`, string(m.Data))
	require.Equal(t, "0f", receive(t, sub).ID)

	for _, body := range []string{
		"", "no JSON", "[]", `{"payload":[1]}`, // four that are no events
		`{"v":1,"id":"10","topic":"attacker.scored","ts":1767225600,"payload":{}}`,
	} {
		require.NoError(t, raw.Publish("decnet.eu.attacker.seen", []byte(body)))
	}
	require.Equal(t, bus.Event{
		ID: "10", Topic: "attacker.seen", Time: at.Truncate(time.Second), Payload: []byte(`{}`),
	}, receive(t, sub))
	require.EqualValues(t, 4, b.Dropped())
}

// TestEverybodyIsWoken: what is published reaches each of many workers.
func TestEverybodyIsWoken(t *testing.T) {
	s := start(t, server.Options{})
	var subs []bus.Subscription
	for range 5 {
		b := connect(t, natsbus.Options{URL: s.url()})
		subs = append(subs, subscribe(t, b, "attacker.observed"), subscribe(t, b, "attacker.observed"))
	}
	b := connect(t, natsbus.Options{URL: s.url()})
	require.NoError(t, b.Publish(t.Context(), bus.Event{ID: "0f", Topic: "attacker.observed"}))
	for _, sub := range subs {
		require.Equal(t, "0f", receive(t, sub).ID)
	}
}

// TestOwnSubjects: what NATS says to itself is no event, even for those who
// subscribe to everything.
func TestOwnSubjects(t *testing.T) {
	s := start(t, server.Options{})
	b := connect(t, natsbus.Options{URL: s.url()})
	sub := subscribe(t, b, ">")
	raw := client(t, s.url())
	for _, subject := range []string{"_INBOX.a", "$JS.API.INFO", "$KV.a", "end"} {
		require.NoError(t, raw.Publish(subject, []byte(`{}`)))
	}
	require.Equal(t, "end", receive(t, sub).Topic)
	require.Zero(t, b.Dropped())

	for _, name := range []string{"$SYS.a", "_INBOX.a"} {
		require.ErrorIs(t, b.Publish(t.Context(), bus.Event{Topic: name}), bus.ErrInvalid)
		_, err := b.Subscribe(t.Context(), name)
		require.ErrorIs(t, err, bus.ErrInvalid)
	}
	_, err := b.Subscribe(t.Context(), "$SYS.>")
	require.ErrorIs(t, err, bus.ErrInvalid)
}

// TestServerForgets: the server sends nothing any more to who has left.
func TestServerForgets(t *testing.T) {
	s := start(t, server.Options{})
	b := connect(t, natsbus.Options{URL: s.url()})
	before := s.NumSubscriptions()
	for range 10 {
		sub := subscribe(t, b, "a")
		require.Equal(t, before+1, s.NumSubscriptions())
		require.NoError(t, sub.Close())
		eventually(t, "the server forgets a subscription", func() bool { return s.NumSubscriptions() == before })
	}
	require.NoError(t, b.Publish(t.Context(), bus.Event{Topic: "a"}))
	require.NoError(t, b.Close())
	eventually(t, "the server forgets a client", func() bool { return s.NumClients() == 0 })
}

func TestDropped(t *testing.T) {
	b := connect(t, natsbus.Options{URL: start(t, server.Options{}).url(), Buffer: 3})
	slow, other := subscribe(t, b, "a"), subscribe(t, b, "b")
	require.Equal(t, 3, cap(slow.Events()))
	for range 10 {
		require.NoError(t, b.Publish(t.Context(), bus.Event{Topic: "a"}))
	}
	require.NoError(t, b.Publish(t.Context(), bus.Event{Topic: "b"}))
	receive(t, other)
	eventually(t, "events are dropped", func() bool { return b.Dropped() == 7 })
}

func TestMaxPayload(t *testing.T) {
	b := connect(t, natsbus.Options{URL: start(t, server.Options{MaxPayload: 1000}).url(), Prefix: "p"})
	sub := subscribe(t, b, "a")
	ev := bus.Event{Topic: "a", Type: strings.Repeat("x", 1000)}
	err := b.Publish(t.Context(), ev)
	require.ErrorIs(t, err, bus.ErrInvalid)
	require.ErrorContains(t, err, "event on a:")
	require.ErrorContains(t, err, "1000 bytes")
	ev.Type = "short"
	require.NoError(t, b.Publish(t.Context(), ev))
	require.Equal(t, "short", receive(t, sub).Type)
}

// TestNotPermitted: what the server refuses is an error of the call, and
// neither drops the event for good nor ends anything.
func TestNotPermitted(t *testing.T) {
	s := start(t, server.Options{Users: []*server.User{{
		Username: "u", Password: "secret",
		Permissions: &server.Permissions{
			Publish:   &server.SubjectPermission{Allow: []string{"yes.>"}},
			Subscribe: &server.SubjectPermission{Allow: []string{"yes.>"}},
		},
	}}})
	b := connect(t, natsbus.Options{URL: s.url(), Nats: []nats.Option{nats.UserInfo("u", "secret")}})
	sub := subscribe(t, b, "yes.a")
	for range 3 {
		_, err := b.Subscribe(t.Context(), "no.a")
		for _, err := range []error{err, b.Publish(t.Context(), bus.Event{Topic: "no.a"})} {
			require.ErrorIs(t, err, nats.ErrPermissionViolation)
			require.ErrorContains(t, err, "no.a")
			require.NotErrorIs(t, err, bus.ErrLost)
			require.NotErrorIs(t, err, bus.ErrInvalid)
		}
		require.NoError(t, b.Publish(t.Context(), bus.Event{ID: "0f", Topic: "yes.a"}))
		require.Equal(t, "0f", receive(t, sub).ID)
	}
	require.NoError(t, sub.Err())
}

// limited returns a user who may subscribe to nothing but what is allowed.
func limited(allowed ...string) []*server.User {
	return []*server.User{{
		Username: "u", Password: "secret",
		Permissions: &server.Permissions{Subscribe: &server.SubjectPermission{Allow: allowed}},
	}}
}

// TestRevoked: a subscription that a reload of the server's configuration no longer
// permits ends, and can be made again when it is permitted again.
func TestRevoked(t *testing.T) {
	s := start(t, server.Options{Users: limited(">")})
	b := connect(t, natsbus.Options{URL: s.url(), Prefix: "p", Nats: []nats.Option{nats.UserInfo("u", "secret")}})
	sub, other := subscribe(t, b, "attacker.observed"), subscribe(t, b, "attacker.scored")
	reload := func(allowed ...string) {
		o := s.options
		o.Users = limited(allowed...)
		require.NoError(t, s.ReloadOptions(&o))
	}
	reload("p.attacker.scored")
	select {
	case _, open := <-sub.Events():
		require.False(t, open)
	case <-time.After(wait):
		require.Fail(t, "the subscription stays open")
	}
	require.ErrorIs(t, sub.Err(), bus.ErrLost)
	require.ErrorIs(t, sub.Err(), nats.ErrPermissionViolation)
	require.ErrorContains(t, sub.Err(), "p.attacker.observed")
	require.NoError(t, sub.Close())
	_, err := b.Subscribe(t.Context(), "attacker.observed")
	require.ErrorIs(t, err, nats.ErrPermissionViolation)

	require.NoError(t, other.Err())
	require.NoError(t, b.Publish(t.Context(), bus.Event{ID: "0f", Topic: "attacker.scored"}))
	require.Equal(t, "0f", receive(t, other).ID)
	reload(">")
	sub = subscribe(t, b, "attacker.observed")
	require.NoError(t, b.Publish(t.Context(), bus.Event{ID: "1f", Topic: "attacker.observed"}))
	require.Equal(t, "1f", receive(t, sub).ID)
}

// TestTooManySubscriptions: each Subscribe that the server refuses fails.
func TestTooManySubscriptions(t *testing.T) {
	s := start(t, server.Options{MaxSubs: 2})
	b := connect(t, natsbus.Options{URL: s.url()})
	sub, other := subscribe(t, b, "a"), subscribe(t, b, "b")
	for _, topic := range []string{"c", "d", "e"} {
		_, err := b.Subscribe(t.Context(), topic)
		require.ErrorIs(t, err, nats.ErrMaxSubscriptionsExceeded, topic)
		require.ErrorContains(t, err, `"`+topic+`"`)
		require.NoError(t, b.Publish(t.Context(), bus.Event{ID: "0f", Topic: "a"}))
		require.Equal(t, "0f", receive(t, sub).ID)
	}
	require.NoError(t, other.Close())
	eventually(t, "there is room", func() bool {
		sub, err := b.Subscribe(t.Context(), "f")
		if err == nil {
			other = sub
		}
		return err == nil
	})
	require.NoError(t, b.Publish(t.Context(), bus.Event{ID: "1f", Topic: "f"}))
	require.Equal(t, "1f", receive(t, other).ID)
}

// TestRefusedAtOnce: several clients call at the same time. The refused calls fail, and
// no others.
func TestRefusedAtOnce(t *testing.T) {
	s := start(t, server.Options{Users: limited("yes.>")})
	b := connect(t, natsbus.Options{URL: s.url(), Nats: []nats.Option{nats.UserInfo("u", "secret")}})
	var calls sync.WaitGroup
	for i := range 20 {
		topic := fmt.Sprintf("%s.%d", []string{"yes", "no"}[i%2], i)
		calls.Go(func() {
			_, err := b.Subscribe(t.Context(), topic)
			if i%2 == 0 {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, nats.ErrPermissionViolation)
				require.ErrorContains(t, err, `Subscription to "`+topic+`"`)
			}
		})
	}
	calls.Wait()
}

func TestCredentials(t *testing.T) {
	pair, err := nkeys.CreateUser()
	require.NoError(t, err)
	public, err := pair.PublicKey()
	require.NoError(t, err)
	s := start(t, server.Options{
		Users: []*server.User{{Username: "u", Password: "secret"}},
		Nkeys: []*server.NkeyUser{{Nkey: public}},
	})
	host := strings.TrimPrefix(s.url(), "nats://")
	for name, o := range map[string]natsbus.Options{
		"in the URL":    {URL: "nats://u:secret@" + host},
		"in the option": {URL: host, Nats: []nats.Option{nats.UserInfo("u", "secret")}},
		"NKey":          {URL: s.url(), Nats: []nats.Option{nats.Nkey(public, pair.Sign)}},
	} {
		b := connect(t, o)
		require.NoError(t, b.Publish(t.Context(), bus.Event{Topic: "a"}), name)
	}
	for name, o := range map[string]natsbus.Options{
		"none":           {URL: s.url()},
		"wrong password": {URL: "nats://u:secret-no-more@" + host},
		"wrong NKey":     {URL: s.url(), Nats: []nats.Option{nats.Nkey(public, func([]byte) ([]byte, error) { return []byte("secret"), nil })}},
	} {
		err := connect(t, o).Publish(t.Context(), bus.Event{Topic: "a"})
		require.ErrorIs(t, err, bus.ErrLost, name)
		require.ErrorIs(t, err, nats.ErrAuthorization, name)
		require.NotContains(t, err.Error(), "secret")
	}
}

func TestTLS(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	s := start(t, server.Options{TLSConfig: &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12,
	}})
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	host := s.Addr().String()
	b := connect(t, natsbus.Options{
		URL:  "tls://" + host,
		Nats: []nats.Option{nats.Secure(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})},
	})
	sub := subscribe(t, b, "a")
	require.NoError(t, b.Publish(t.Context(), bus.Event{ID: "0f", Topic: "a"}))
	require.Equal(t, "0f", receive(t, sub).ID)

	err = connect(t, natsbus.Options{URL: "tls://" + host}).Publish(t.Context(), bus.Event{Topic: "a"})
	require.ErrorIs(t, err, bus.ErrLost)
	require.ErrorContains(t, err, "certificate")
}

func TestOptions(t *testing.T) {
	sour := errors.New("sour")
	for want, o := range map[string]natsbus.Options{
		"Options.URL":    {URL: "http://host"},
		"Options.Prefix": {Prefix: "a..b"},
		`"$SYS"`:         {Prefix: "$SYS"},
		"sour":           {Nats: []nats.Option{func(*nats.Options) error { return sour }}},
	} {
		_, err := natsbus.New(o)
		require.ErrorContains(t, err, want)
	}
	b := connect(t, natsbus.Options{
		URL: start(t, server.Options{}).url(),
		// Neither keeps a bus from connecting as it should, nor a buffer as it was.
		Nats: []nats.Option{nil, nats.RetryOnFailedConnect(true), nats.MaxReconnects(1), nats.FlusherTimeout(-1)},
	})
	require.Equal(t, bus.DefaultBuffer, cap(subscribe(t, b, "a").Events()))
}
