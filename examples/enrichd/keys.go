package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/decnet/enrich/provider"
)

// key returns a service's API key, and "" if there is none: from its variable,
// from the file that a variable with _FILE at its end names, or from a credential
// of systemd with the variable's name.
func (e *environment) key(variable string) (string, error) {
	key, path, where := e.text(variable), e.text(variable+"_FILE"), variable
	switch {
	case key != "" && path != "":
		return "", fmt.Errorf("%s and %s_FILE are both set; remove one", variable, variable)
	case key != "":
	case path != "":
		where = variable + "_FILE"
		text, err := readKey(path)
		if err != nil {
			return "", fmt.Errorf("%s: %w", where, err)
		}
		key = text
	default:
		dir := e.text("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return "", nil
		}
		where = "the credential " + variable
		text, err := readKey(filepath.Join(dir, variable))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return "", nil
		case err != nil:
			return "", fmt.Errorf("%s: %w", where, err)
		}
		key = text
	}
	if strings.ContainsAny(key[:1]+key[len(key)-1:], "\"'`") {
		return "", fmt.Errorf("%s has quotes around the key; remove them (an --env-file of Docker or Podman keeps quotes)", where)
	}
	return key, nil
}

// readKey reads the file of a key. Its errors repeat nothing from the file.
func readKey(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	const most = 4 << 10
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	key := strings.TrimSpace(string(text))
	switch {
	case err != nil:
		return "", err
	case len(text) > most:
		return "", fmt.Errorf("%s is too long for a key", path)
	case key == "":
		return "", fmt.Errorf("%s is empty", path)
	}
	return key, nil
}

// ownNetworks reads the operator's own networks from a file.
func ownNetworks(path string) ([]netip.Prefix, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	own, err := provider.ParseNetworks(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return own, nil
}
