package enclave

import (
	"errors"
	"fmt"

	"github.com/trefoil-eu/trefoil/internal/home/keyring"
	"github.com/trefoil-eu/trefoil/internal/home/kms"
)

// Keyring opens the ring of the keys of pseudonyms, with the key management system that wraps
// them where one is configured.
func (c *Config) Keyring() (*keyring.Ring, error) {
	var o keyring.Options
	if c.Keys.KMS != "" {
		if c.Keys.KMSToken == "" {
			return nil, errors.New("keys.kms needs keys.kms_token: a file with the token for it")
		}
		client, err := kms.New(kms.Options{TokenFile: c.Keys.KMSToken, CAFile: c.Keys.KMSCA})
		if err != nil {
			return nil, fmt.Errorf("keys.kms: %w", err)
		}
		o.KMS, o.URI = client, c.Keys.KMS
	}
	return keyring.Open(c.Keys.Pseudonyms, o)
}
