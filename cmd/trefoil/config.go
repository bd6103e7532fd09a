package main

import (
	"github.com/spf13/cobra"

	"github.com/trefoil-eu/trefoil/internal/enclave"
)

// loadConfig reads the enclave's configuration that -c names.
func loadConfig(cmd *cobra.Command) (*enclave.Config, error) {
	path, err := cmd.Flags().GetString("config")
	if err != nil {
		return nil, err
	}
	return enclave.Load(path)
}
