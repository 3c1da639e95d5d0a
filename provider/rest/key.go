package rest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/decnet/enrich/provider"
)

// Key is how a service is given its API key. The zero value means no key.
type Key struct {
	// Header is the request header that carries the key. It is needed if Func
	// is set.
	Header string
	// Func returns the key. It is called for each request, also concurrently, so
	// the key can change at any time. Surrounding white space is removed. An
	// empty text, or a nil Func, means no key.
	Func func() string
	// Required says that the service answers nobody without a key.
	Required bool
	// Name is what users call the key, for errors, for example the environment
	// variable it conventionally comes from.
	Name string
	// Refusal are names of members of a JSON object. Every refusal by the service
	// has one of them: only then does the status 402 or 403 mean that the key is to
	// blame. With none, any JSON object will do.
	Refusal []string
}

// get returns the present key and "" for none. The error does not repeat the
// key.
func (k *Key) get() (string, error) {
	key := ""
	if k.Func != nil {
		key = strings.TrimSpace(k.Func())
	}
	if key == "" && k.Required {
		hint := ""
		if k.Name != "" {
			hint = fmt.Sprintf(" (%s)", k.Name)
		}
		return "", errors.New("KeyFunc returns no API key, and the service requires one" + hint)
	}
	if strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", errors.New("KeyFunc returns an API key with a space, a line break or a letter that no key has; copy the key again")
	}
	return key, nil
}

// Account returns a short text that stands for the present key. Different keys
// have different texts, and the key cannot be found out from it. It is empty
// without a key.
func (c *Client) Account() string {
	key, err := c.key.get()
	if err != nil || key == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(c.name + "\x00" + key))
	return hex.EncodeToString(sum[:6])
}

// ConfigError joins what is wrong with a provider's options into one error that
// wraps [provider.ErrConfig]. It returns nil if every problem is nil. An error
// of [New] may be among the problems.
func ConfigError(name string, problems ...error) error {
	for i, err := range problems {
		if e, ok := err.(*provider.Error); ok && e.Kind == provider.ErrConfig {
			problems[i] = e.Err
		}
	}
	if err := errors.Join(problems...); err != nil {
		return &provider.Error{Provider: name, Kind: provider.ErrConfig, Err: err}
	}
	return nil
}
