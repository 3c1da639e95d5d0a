package rest

import (
	"errors"
	"fmt"
	"strings"

	"github.com/decnet/enrich/provider"
)

// Key returns the text of an API key without surrounding white space. It
// returns an error, which does not repeat the text, if a key cannot be so, and
// if there is none although it is required; env is the environment variable it
// conventionally comes from.
func Key(text, env string, required bool) (string, error) {
	key := strings.TrimSpace(text)
	if key == "" && required {
		return "", fmt.Errorf("Key is missing; set it, conventionally from the environment variable %s", env)
	}
	for _, r := range key {
		if r <= ' ' || r > '~' {
			return "", errors.New("Key has a character in it that no key has, such as a space, a line break or a letter with an accent; copy it again")
		}
	}
	return key, nil
}

// ConfigError joins what is wrong with a provider's options into one error
// that wraps [provider.ErrConfig]. It returns nil if every problem is nil.
func ConfigError(name string, problems ...error) error {
	if err := errors.Join(problems...); err != nil {
		return &provider.Error{Provider: name, Kind: provider.ErrConfig, Err: err}
	}
	return nil
}
