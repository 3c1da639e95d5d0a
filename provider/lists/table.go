package lists

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/feed"
)

// List is a built-in list, as data.
type List struct {
	// Name is the name of the provider, and of the settings about it.
	Name string
	// Title says what the list is.
	Title string
	// Meaning says what a row means.
	Meaning string
	// Verdict is the opinion about a listed address; provider.None for a label.
	Verdict provider.Verdict
	// Profile says how much that is worth. Local is always set.
	Profile provider.Profile
	// Sources are where it is published.
	Sources []feed.Source
	// Interval is the time between two downloads, and Spacing the least time
	// between any two requests; see [feed.Options].
	Interval, Spacing time.Duration
	// Cadence is how often the publisher promises a new version; zero for no
	// promise.
	Cadence time.Duration
	// Terms are what the publisher asks for, or grants.
	Terms string
	// Default says that the list is on unless the operator chooses others.
	Default bool
	// Off says why it is not, if so.
	Off string
	// Key is the name of the service whose API key the list needs; empty for none.
	Key string

	format  feed.Format
	anyWide bool
	// attrs are the attributes that a row's fields make, with nil for a row that
	// does not count. Nil means none but listed.
	attrs func(label string, fields []string) map[string]any
	// opinion is the opinion about a row with these attributes, if not Verdict.
	opinion func(attrs map[string]any) provider.Verdict
}

// warninglists is where MISP's lists are.
const warninglists = "https://raw.githubusercontent.com/MISP/misp-warninglists/main/lists/"

func misp(names ...string) []feed.Source {
	var sources []feed.Source
	for _, name := range names {
		sources = append(sources, feed.Source{URL: warninglists + name + "/list.json", Syntax: feed.JSONObject, Label: name})
	}
	return sources
}

const (
	hour = time.Hour
	day  = 24 * hour
	week = 7 * day
)

const mispTerms = "CC0 (MISP warninglists)"

// known are all built-in lists.
var known = []List{
	{
		Name: "scanners", Title: "harmless mass scanners (MISP warninglists)", Default: true,
		Meaning: "benign: somebody who scans everybody, for research or to warn", Verdict: provider.Benign,
		Profile: provider.Profile{Confidence: 0.9, Rank: provider.RankVerified},
		Sources: misp(
			"alphastrike-research-nt-scanning", "alphastrike-scanning", "bufferover-nt-scanning", "censys-scanning",
			"circl-security-scanning", "circl-ssh-scanning", "coalition-signals-intelligence-nt-scanning", "cybergreen-nt-scanning",
			"cyberresilience-nt-scanning", "cypex-nt-scanning", "f6-nt-scanning", "internet-census-nt-scanning",
			"internetcleanup-scanner", "intrinsec-nt-scanning", "ipinfo-nt-scanning", "ipip-nt-scanning", "modat-nt-scanning",
			"modat-scanner", "netsecscan-nt-scanning", "netsecscan-scanning", "onyphe-nt-scanning", "onyphe-scanner",
			"probethenet-nt-scanning", "rapid7-nt-scanning", "research-scanner-nt-scanning", "shadowforce-nt-scanning",
			"shadowforce-scanning", "shadowserver", "shadowserver-nt-scanning", "shodan-nt-scanning", "shodan-scanning",
			"skipa-nt-scanning", "stretchoid-nt-scanning", "umich-cse-connection-attempts",
		),
		Interval: week, Cadence: week, Terms: mispTerms,
		format: feed.Format{Fields: []string{"list"}}, attrs: names,
	},
	{
		Name: "drop_v4", Title: "Spamhaus DROP, IPv4", Default: true,
		Meaning: "malicious: a network that is hijacked, or leased by criminals", Verdict: provider.Malicious,
		Profile:  provider.Profile{Confidence: 0.9, Group: "spamhaus", Rank: provider.RankVerified},
		Sources:  []feed.Source{{URL: "https://www.spamhaus.org/drop/drop_v4.json", Syntax: feed.JSONLines}},
		Interval: day, Cadence: day, Terms: dropTerms, format: dropFormat, attrs: dropAttrs,
	},
	{
		Name: "drop_v6", Title: "Spamhaus DROP, IPv6", Default: true,
		Meaning: "malicious: a network that is hijacked, or leased by criminals", Verdict: provider.Malicious,
		Profile:  provider.Profile{Confidence: 0.9, Group: "spamhaus", Rank: provider.RankVerified},
		Sources:  []feed.Source{{URL: "https://www.spamhaus.org/drop/drop_v6.json", Syntax: feed.JSONLines}},
		Interval: day, Cadence: day, Terms: dropTerms, format: dropFormat, attrs: dropAttrs,
	},
	{
		Name: "tor", Title: "exit nodes of the Tor network", Default: true,
		Meaning: "a label: an exit node; no sign of guilt",
		Sources: []feed.Source{{
			URL:    "https://onionoo.torproject.org/details?flag=Exit&running=true&fields=exit_addresses,or_addresses",
			Syntax: feed.JSONObject,
		}},
		Interval: hour, Cadence: hour, Terms: "CC0 (The Tor Project)",
		format: feed.Format{Address: []string{"exit_addresses", "or_addresses"}},
	},
	{
		Name: "ipsum", Title: "IPsum, a count of other block lists", Default: true,
		Meaning: "suspicious from 3 lists on; the number of lists is an attribute", Verdict: provider.Suspicious,
		Profile:  provider.Profile{DerivedFrom: []string{"blocklist_de", "cins"}},
		Sources:  []feed.Source{{URL: "https://raw.githubusercontent.com/stamparm/ipsum/master/ipsum.txt", Syntax: feed.Lines}},
		Interval: day, Cadence: day, Terms: "Unlicense; the lists that it counts have their own terms",
		format: feed.Format{Fields: []string{"level"}}, attrs: level,
		opinion: func(attrs map[string]any) provider.Verdict {
			if level, _ := attrs["level"].(int64); level < ipsumLevel {
				return provider.None
			}
			return provider.Suspicious
		},
	},
	{
		Name: "blocklist_de", Title: "blocklist.de, attacks of the last two days",
		Meaning: "suspicious: it attacked one of the servers that report there", Verdict: provider.Suspicious,
		Sources:  []feed.Source{{URL: "https://lists.blocklist.de/lists/all.txt", Syntax: feed.Lines}},
		Interval: hour / 2, Spacing: hour / 2, Cadence: hour / 2, Terms: "no licence; use at one's own risk",
		Off: "its publisher grants no licence",
	},
	{
		Name: "cins", Title: "CINS Army",
		Meaning: "suspicious: a bad reputation with the sensors of Sentinel", Verdict: provider.Suspicious,
		Sources:  []feed.Source{{URL: "https://cinsscore.com/list/ci-badguys.txt", Syntax: feed.Lines}},
		Interval: hour, Cadence: day, Terms: `"parse and use in any way you see fit"; no formal licence`,
		Off: "its publisher grants no formal licence",
	},
	{
		Name: "blacklist_abuseipdb", Title: "AbuseIPDB's blacklist", Key: "abuseipdb",
		Meaning: "malicious: the score is 100", Verdict: provider.Malicious,
		Profile:  provider.Profile{Confidence: 0.7, Group: "abuseipdb", DerivedFrom: []string{"abuseipdb"}, NoRepublish: true},
		Sources:  []feed.Source{{URL: "https://api.abuseipdb.com/api/v2/blacklist?limit=10000", Syntax: feed.JSONObject}},
		Interval: 6 * hour, Spacing: 5 * hour, Cadence: day,
		Terms:  "free accounts: 5 downloads a day, not for commercial use; no republishing",
		Off:    "it needs a key, and its terms forbid commercial use without a paid plan",
		format: feed.Format{Address: []string{"ipAddress"}, Fields: []string{"abuseConfidenceScore"}}, attrs: integer("score"),
		opinion: func(attrs map[string]any) provider.Verdict {
			switch score, ok := attrs["score"].(int64); {
			case !ok || score >= 75:
				return provider.Malicious
			case score >= 25:
				return provider.Suspicious
			}
			return provider.None
		},
	},
	{
		Name: ExportThreatFox, Title: "ThreatFox's export, which answers instead of the search", Key: "threatfox",
		Meaning: "as the search says", Verdict: provider.Malicious,
		Profile:  provider.Profile{Confidence: 0.9, Group: "abuse_ch", Rank: provider.RankVerified},
		Interval: hour, Cadence: day, Terms: "abuse.ch, 2025-11-04: commercial use may require a subscription",
		Off: "it needs a key, and its terms may forbid commercial use",
	},
	{
		Name: "iptoasn", Title: "iptoasn, the networks of the internet",
		Meaning:  "a label: number, name and country of the autonomous system",
		Sources:  []feed.Source{{URL: "https://iptoasn.com/data/ip2asn-combined.tsv.gz", Syntax: feed.Lines}},
		Interval: day, Cadence: day, Terms: "PDDL",
		Off:    "half a million networks in memory, for a label",
		format: feed.Format{Ranges: true, Fields: []string{"asn", "country", "name"}}, anyWide: true, attrs: asn,
	},
	{
		Name: "clouds", Title: "networks of clouds and content delivery (MISP warninglists)",
		Meaning:  "a label: whose cloud; harmless and harmful servers alike",
		Sources:  misp("akamai", "amazon-aws", "cloudflare", "fastly", "google-gcp", "microsoft-azure"),
		Interval: week, Terms: mispTerms, Off: "a label that few need",
		format: feed.Format{Fields: []string{"list"}}, attrs: names,
	},
}

// ExportThreatFox is the name of the list that answers for the provider threatfox.
const ExportThreatFox = "export_threatfox"

// ipsumLevel is the number of lists from which on IPsum has an opinion.
const ipsumLevel = 3

const dropTerms = "free if the credit stays: (c) The Spamhaus Project, https://www.spamhaus.org/drop/terms/"

var dropFormat = feed.Format{Address: []string{"cidr"}, Fields: []string{"sblid", "rir"}, Metadata: true}

func dropAttrs(_ string, fields []string) map[string]any {
	attrs := map[string]any{}
	for i, name := range []string{"sblid", "rir"} {
		if i < len(fields) && fields[i] != "" {
			attrs[name] = strings.Clone(fields[i])
		}
	}
	return attrs
}

// names makes the attribute names of the list that a row is from.
func names(label string, fields []string) map[string]any {
	if len(fields) > 0 && fields[0] != "" {
		label = strings.Clone(fields[0])
	}
	if label == "" {
		return map[string]any{}
	}
	return map[string]any{"names": []string{label}}
}

// integer makes an attribute of a number.
func integer(name string) func(string, []string) map[string]any {
	return func(_ string, fields []string) map[string]any {
		attrs := map[string]any{}
		if len(fields) > 0 {
			if n, err := strconv.ParseInt(fields[0], 10, 64); err == nil {
				attrs[name] = n
			}
		}
		return attrs
	}
}

// level makes the attribute of IPsum's rows. One with anything but a number after the
// address does not count.
func level(label string, fields []string) map[string]any {
	attrs := integer("level")(label, fields)
	if len(attrs) == 0 && len(fields) > 0 {
		return nil
	}
	return attrs
}

// asn makes attributes of a row of iptoasn. Networks that nobody announces do not
// count.
func asn(_ string, fields []string) map[string]any {
	if len(fields) < 3 || fields[0] == "0" {
		return nil
	}
	n, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil {
		return nil
	}
	return map[string]any{"asn": n, "country": strings.Clone(fields[1]), "as_name": strings.Clone(strings.Join(fields[2:], " "))}
}

// Known returns all built-in lists.
func Known() []List { return slices.Clone(known) }

// Find returns the built-in list of that name.
func Find(name string) (List, bool) {
	i := slices.IndexFunc(known, func(l List) bool { return l.Name == name })
	if i < 0 {
		return List{}, false
	}
	return known[i], true
}

// Names returns the names of all built-in lists, or of those that are on by
// default.
func Names(onlyDefault bool) (names []string) {
	for _, l := range known {
		if l.Default || !onlyDefault {
			names = append(names, l.Name)
		}
	}
	return names
}
