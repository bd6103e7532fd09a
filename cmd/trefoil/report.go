package main

import (
	"encoding/json"

	"github.com/spf13/cobra"
)

// report prints v as JSON where --json was given, else calls plain.
func report(cmd *cobra.Command, v any, plain func()) error {
	asJSON, err := cmd.Flags().GetBool("json")
	if err != nil {
		return err
	}
	if !asJSON {
		plain()
		return nil
	}
	enc := json.NewEncoder(cmd.OutOrStdout())
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
