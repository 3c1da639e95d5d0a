package intel

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/decnet/enrich/provider"
)

// Enriched is the payload of an event on [TopicEnriched]: what is known about an
// attacker after a save that stored a finding, from its whole ledger. Read one with
// [ParseEnriched]. The original worker publishes the fields down to
// ThreatFoxMalwareFamilies only; the others are zero in its events.
type Enriched struct {
	// AttackerUUID identifies the attacker.
	AttackerUUID uuid.UUID
	// AttackerIP is the attacker's address when the event was made, as it was
	// registered. Several attackers may have it.
	AttackerIP string
	// Verdict is the combined verdict; [provider.None] if no provider has an opinion.
	Verdict provider.Verdict
	// Providers are the names of the configured providers.
	Providers []string

	// AbuseIPDBScore is the abuse confidence score, from 0 to 100. It is nil before
	// AbuseIPDB has answered.
	AbuseIPDBScore *int64
	// AbuseIPDBCategories are the categories of the reports, as AbuseIPDB numbers
	// them.
	AbuseIPDBCategories []int64
	// GreyNoiseClassification and GreyNoiseName are empty before GreyNoise has
	// answered, and where it has none.
	GreyNoiseClassification, GreyNoiseName string
	GreyNoiseTags                          []string
	// FeodoListed is nil before Feodo Tracker's list was looked at.
	FeodoListed        *bool
	FeodoMalwareFamily string
	// ThreatFoxListed is nil before ThreatFox has answered.
	ThreatFoxListed                                                   *bool
	ThreatFoxThreatTypes, ThreatFoxIOCTypes, ThreatFoxMalwareFamilies []string

	// EventID is the ID of the event. An event that comes again has the same ID.
	EventID string
	// Revision counts the attacker's saves that stored a finding, from 1.
	Revision uint64
	// Answered are the providers whose findings the save stored, and Pending those
	// that apply and have no fresh finding yet.
	Answered, Pending []string
	// Changed says that the verdict is another than before.
	Changed bool
	// Attrs are the attributes of other providers, by their key in the payload:
	// the provider's name, an underscore and the attribute. Values are as
	// [encoding/json] decodes them into an any. It is nil if there are none.
	Attrs map[string]any
}

// ParseEnriched reads the payload of an event on [TopicEnriched], ours or the
// original worker's. It returns an error that names the key if a value has another
// type than the payload's, or if the attacker's UUID is missing. A key that is
// missing or null leaves its field zero.
func ParseEnriched(payload json.RawMessage) (Enriched, error) {
	var e Enriched
	var values map[string]json.RawMessage
	if err := json.Unmarshal(payload, &values); err != nil || values == nil {
		return e, errors.Join(errors.New("intel: the payload of an enriched event is not a JSON object"), err)
	}
	for key, field := range map[string]any{
		"attacker_uuid": &e.AttackerUUID, "attacker_ip": &e.AttackerIP, "aggregate_verdict": &e.Verdict, "providers": &e.Providers,
		"abuseipdb_score": &e.AbuseIPDBScore, "abuseipdb_categories": &e.AbuseIPDBCategories,
		"greynoise_classification": &e.GreyNoiseClassification, "greynoise_name": &e.GreyNoiseName, "greynoise_tags": &e.GreyNoiseTags,
		"feodo_listed": &e.FeodoListed, "feodo_malware_family": &e.FeodoMalwareFamily,
		"threatfox_listed": &e.ThreatFoxListed, "threatfox_threat_types": &e.ThreatFoxThreatTypes,
		"threatfox_ioc_types": &e.ThreatFoxIOCTypes, "threatfox_malware_families": &e.ThreatFoxMalwareFamilies,
		"event_id": &e.EventID, "revision": &e.Revision, "answered": &e.Answered, "pending": &e.Pending, "changed": &e.Changed,
	} {
		value, ok := values[key]
		if !ok {
			continue
		}
		if err := json.Unmarshal(value, field); err != nil {
			return Enriched{}, fmt.Errorf("intel: %s of an enriched event: %w", key, err)
		}
		delete(values, key)
	}
	if e.AttackerUUID == uuid.Nil {
		return Enriched{}, errors.New("intel: an enriched event without an attacker_uuid")
	}
	for key, value := range values {
		if e.Attrs == nil {
			e.Attrs = make(map[string]any, len(values))
		}
		var attr any
		if err := json.Unmarshal(value, &attr); err != nil { // a number beyond float64
			return Enriched{}, fmt.Errorf("intel: %s of an enriched event: %w", key, err)
		}
		e.Attrs[key] = attr
	}
	return e, nil
}
