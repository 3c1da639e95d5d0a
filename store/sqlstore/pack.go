package sqlstore

import (
	"slices"
	"strings"
)

// The columns entries and decision of enrich_ledger hold JSON in which phrases that
// nearly every document has are replaced by control characters: these stand in no
// JSON text. It takes half the room, which decides how many rows a page holds and how
// much every save writes. Documents without such characters are read as they are.

// phrases are what is replaced. The place of a phrase is its code: add others at the
// end, and change none.
var phrases = []string{
	// Of one byte each.
	`{"provider":"abuseipdb","state":1,"expires":`,
	`{"provider":"feodo","state":1,"expires":`,
	`{"provider":"greynoise","state":1,"expires":`,
	`{"provider":"threatfox","state":1,"expires":`,
	`,"finding":{"addr":"`,
	`","known":true,"verdict":"malicious","observed":`,
	`","known":true,"verdict":"suspicious","observed":`,
	`","known":true,"verdict":"benign","observed":`,
	`","known":true,"verdict":"unknown","observed":`,
	`","observed":`,
	`,"raw":true,"attrs":{`,
	`,"ttl":259200000000000,"raw":true,"attrs":{"classification":"`,
	`,"attrs":{"listed":false}}}`,
	`,"attrs":{"ioc_types":[],"listed":false,"malware_families":[],"threat_types":[]}}}`,
	`,"is_tor":false,"is_whitelisted":false,"isp":"`,
	`,"link":"https://viz.greynoise.io/ip/`,
	`,"noise":true,"riot":false,"tags":[]}}}`,
	`{"verdict":"malicious","policy":"strongest/2@`,
	`","reasons":[{"provider":"`,
	`"},{"provider":"`,
	`","verdict":"malicious","observed_at":"`,
	`","decisive":true},{"provider":"`,
	`","decisive":true}]}`,
	`,"distinct_users":`,
	`,"total_reports":`,
	`","usage_type":"Data Center/Web Hosting/Transit"}}}`,
	`"categories":[`,
	// Of two bytes each.
	`"country_code":"`,
	`","domain":"`,
	`","last_reported_at":"`,
	`","score":`,
	`","usage_type":"`,
	`","last_seen":"`,
	`","name":"unknown"`,
	`","name":"`,
	`,"noise":false,"riot":false,"tags":[]}}}`,
	`","verdict":"unknown","observed":`,
	`,"verdict":"unknown","observed":`,
	`{"verdict":"unknown","policy":"strongest/2@`,
	`{"verdict":"suspicious","policy":"strongest/2@`,
	`{"verdict":"benign","policy":"strongest/2@`,
	`{"policy":"strongest/2@`,
	`","verdict":"suspicious","observed_at":"`,
	`","verdict":"unknown","observed_at":"`,
	`","verdict":"benign","observed_at":"`,
	`","verdict":null,"observed_at":"`,
	`","decisive":true,"rank":1}`,
	`,"provider":"`,
	`"abuseipdb`,
	`"greynoise`,
	`"threatfox`,
	`,"score":0`,
	`,"is_tor":false`,
	`,"is_whitelisted":false`,
	`,"last_reported_at":null`,
	`"ignored":"no opinion"`,
	`{"provider":"`,
	`","state":`,
	`,"expires":`,
	`,"due":`,
	`,"failures":`,
	`,"error":"`,
	`"listed":true`,
	`"malware_family":"`,
	`"malware_families":["`,
	`"ioc_types":["ip:port"]`,
	`"threat_types":["botnet_cc"]`,
	`"first_seen":"`,
	`"last_online":"`,
	`,"rank":1`,
	`,"attrs":{`,
	`,"ttl":`,
	`}},{"provider":"`,
}

const (
	twoBytes = 0x1f // begins the code of a phrase after the first ones
	secondAt = '!'  // and goes on with a character from here on
)

// oneByte are the codes of the first phrases: all control characters but those that
// end a line or a text, and twoBytes.
var oneByte = func() (codes []byte) {
	for c := byte(1); c < twoBytes; c++ {
		if c != '\t' && c != '\n' && c != '\r' {
			codes = append(codes, c)
		}
	}
	return codes
}()

// coded is a phrase with its code.
type coded struct{ phrase, code string }

// keyLength is how many bytes of a text lead to the phrases that it may begin with.
const keyLength = 3

// keyOf returns what the second and the third byte of a text or phrase lead to.
func keyOf(text string) int { return int(text[1]&0x7f)<<7 | int(text[2]&0x7f) }

// buckets hold the phrases of a key, longest first; bucketOf has their places by key,
// and 0 for none.
var buckets, bucketOf = func() (buckets [][]coded, of [1 << 14]uint8) {
	buckets = make([][]coded, 1)
	for i, phrase := range phrases {
		code := string([]byte{twoBytes, byte(secondAt + i - len(oneByte))})
		if i < len(oneByte) {
			code = string(oneByte[i : i+1])
		}
		n := &of[keyOf(phrase)]
		if *n == 0 {
			*n = uint8(len(buckets))
			buckets = append(buckets, nil)
		}
		buckets[*n] = append(buckets[*n], coded{phrase, code})
	}
	for _, bucket := range buckets {
		slices.SortStableFunc(bucket, func(a, b coded) int { return len(b.phrase) - len(a.phrase) })
	}
	return buckets, of
}()

// phraseOf are the phrases by their code of one byte.
var phraseOf = func() (of [' ']string) {
	for i, c := range oneByte {
		of[c] = phrases[i]
	}
	return of
}()

// pack returns a JSON text as it is stored.
func pack(text string) string {
	b := make([]byte, 0, len(text))
	from := 0 // what was not written yet
	for i := 0; i+keyLength <= len(text); {
		if c := text[i]; c != '"' && c != ',' && c != '{' && c != '}' { // as all phrases begin
			i++
			continue
		}
		size := 0
		for _, c := range buckets[bucketOf[keyOf(text[i:])]] {
			if strings.HasPrefix(text[i:], c.phrase) {
				b = append(append(b, text[from:i]...), c.code...)
				size = len(c.phrase)
				break
			}
		}
		if size == 0 {
			i++
			continue
		}
		i += size
		from = i
	}
	if from == 0 {
		return text
	}
	return string(append(b, text[from:]...))
}

// unpack is the inverse of pack. It leaves codes that it does not know as they are,
// which makes the document one that cannot be read.
func unpack(text string) string {
	i := strings.IndexFunc(text, func(c rune) bool { return c < ' ' })
	if i < 0 {
		return text
	}
	b := make([]byte, 0, 4*len(text))
	b = append(b, text[:i]...)
	for ; i < len(text); i++ {
		switch c := text[i]; {
		case c >= ' ':
			b = append(b, c)
		case c == twoBytes && i+1 < len(text):
			n := int(text[i+1]) - secondAt + len(oneByte)
			if n < len(oneByte) || n >= len(phrases) {
				b = append(b, c)
				continue
			}
			b = append(b, phrases[n]...)
			i++
		case phraseOf[c] != "":
			b = append(b, phraseOf[c]...)
		default:
			b = append(b, c)
		}
	}
	return string(b)
}
