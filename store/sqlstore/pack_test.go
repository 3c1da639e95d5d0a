package sqlstore

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// packed are documents, of an attacker with four findings, two of them about an
// address that is not listed.
const packedEntries = `[{"provider":"abuseipdb","state":1,"expires":1796029651119064,"finding":{"addr":"45.9.0.25","known":true,"verdict":"malicious","observed":1795945769169797,"raw":true,"attrs":{"categories":[20,23],"country_code":"SG","distinct_users":101,"domain":"northern-hosting.example","is_tor":false,"is_whitelisted":false,"isp":"Northern Hosting B.V.","last_reported_at":"2026-10-21T19:56:59Z","score":88,"total_reports":300,"usage_type":"Data Center/Web Hosting/Transit"}}},{"provider":"feodo","state":1,"expires":1796024681828714,"finding":{"addr":"45.9.0.25","observed":1795945768794190,"attrs":{"listed":false}}},{"provider":"greynoise","state":1,"expires":1796190953364245,"finding":{"addr":"45.9.0.25","known":true,"verdict":"malicious","observed":1795945769169984,"ttl":259200000000000,"raw":true,"attrs":{"classification":"malicious","last_seen":"2026-10-31","link":"https://viz.greynoise.io/ip/45.9.0.25","name":"unknown","noise":true,"riot":false,"tags":[]}}},{"provider":"threatfox","state":1,"expires":1796028820488062,"finding":{"addr":"45.9.0.25","observed":1795945769165859,"attrs":{"ioc_types":[],"listed":false,"malware_families":[],"threat_types":[]}}}]`

const packedDecision = `{"verdict":"malicious","policy":"strongest/2@c7c57b99","reasons":[{"provider":"abuseipdb","verdict":"malicious","observed_at":"2026-11-29T09:49:29.169797Z","decisive":true},{"provider":"greynoise","verdict":"malicious","observed_at":"2026-11-29T09:49:29.169984Z","decisive":true}]}`

func TestPack(t *testing.T) {
	require.LessOrEqual(t, len(phrases), len(oneByte)+'~'-secondAt+1)
	seen := map[string]bool{}
	for _, phrase := range phrases {
		require.False(t, seen[phrase], phrase)
		seen[phrase] = true
		require.Contains(t, `{",}`, phrase[:1])
		require.LessOrEqual(t, len(pack(phrase)), 2, phrase)
		require.Equal(t, phrase, unpack(pack(phrase)))
	}
	for _, text := range []string{"", "[]", "{}", packedEntries, packedDecision, `{"a":"größe"}`} {
		require.Equal(t, text, unpack(pack(text)))
		require.Equal(t, text, unpack(text), "what was stored before is read as it is")
	}
	require.Less(t, len(pack(packedEntries))+len(pack(packedDecision)), 620)
	for _, odd := range []string{"\x1f", "\x1f\xff", "\x1f ", "\x1f~", "\t", "\x1e", "[\x01"} {
		_, err := decode(unpack(odd))
		require.Error(t, err, "%q", odd)
	}
}

// TestPhrasesStay: what was stored can be read for ever.
func TestPhrasesStay(t *testing.T) {
	require.Equal(t, `{"provider":"abuseipdb","state":1,"expires":1,"finding":{"addr":"1.2.3.4","known":true,"verdict":"malicious","observed":`,
		unpack("\x011\x051.2.3.4\x06"))
	require.Equal(t, `"categories":["country_code":"","domain":"`, unpack("\x1e\x1f!\x1f\""))
	require.Equal(t, `}},{"provider":"`, unpack("\x1f"+string(rune(secondAt+len(phrases)-len(oneByte)-1))))
}

// FuzzPack: every JSON text comes back as it was.
func FuzzPack(f *testing.F) {
	f.Add(packedEntries)
	f.Add(packedDecision)
	f.Add(strings.Join(phrases, ""))
	f.Fuzz(func(t *testing.T, text string) {
		_ = unpack(text)
		if strings.ContainsFunc(text, func(c rune) bool { return c < ' ' }) {
			return
		}
		require.Equal(t, text, unpack(pack(text)))
		if json.Valid([]byte(text)) {
			require.LessOrEqual(t, len(pack(text)), len(text))
		}
	})
}

func BenchmarkPack(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		_ = pack(packedEntries)
	}
}

func BenchmarkUnPack(b *testing.B) {
	packed := pack(packedEntries)
	b.ReportAllocs()
	for b.Loop() {
		_ = unpack(packed)
	}
}
