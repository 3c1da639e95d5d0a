package provider_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
)

func TestProfileValidate(t *testing.T) {
	for _, p := range []provider.Profile{
		{},
		{Confidence: 1, Group: "abuse_ch", DerivedFrom: []string{"blocklist_de", "cins"}, Rank: provider.RankOperator, Local: true, NoRepublish: true},
		{Confidence: math.SmallestNonzeroFloat64, Rank: provider.RankVerified},
	} {
		require.NoError(t, p.Validate())
	}
	for want, p := range map[string]provider.Profile{
		"Confidence is -0.1; it must be from 0 to 1": {Confidence: -0.1},
		"Confidence is 1.1":                          {Confidence: 1.1},
		"Confidence is NaN":                          {Confidence: math.NaN()},
		"Confidence is +Inf":                         {Confidence: math.Inf(1)},
		`Group: name "abuse.ch" is not`:              {Group: "abuse.ch"},
		`DerivedFrom: name "" is not`:                {DerivedFrom: []string{"cins", ""}},
		"Rank is -1; it must be 0, 1 or 2":           {Rank: -1},
		"Rank is 3":                                  {Rank: 3},
		"Confidence is 2; it must be from 0 to 1\nRank is 4; it must": {Confidence: 2, Rank: 4},
	} {
		require.ErrorContains(t, p.Validate(), want)
	}
}
