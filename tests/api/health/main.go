// Command health says what others make of an object: Helm and Flux by kstatus, Argo CD by a script in Lua.
//
// It reads a JSON list of objects and writes a JSON list of verdicts. Both libraries are the ones that these programs are
// built with: github.com/fluxcd/cli-utils (Helm 4, Flux) and github.com/yuin/gopher-lua (Argo CD).
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

type verdict struct {
	Kstatus     string `json:"kstatus"`
	Argo        string `json:"argo"`
	ArgoMessage string `json:"argoMessage"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 2 {
		return fmt.Errorf("usage: health SCRIPT < OBJECTS")
	}
	script, err := os.ReadFile(os.Args[1])
	if err != nil {
		return err
	}
	var objects []map[string]any
	if err := json.NewDecoder(os.Stdin).Decode(&objects); err != nil {
		return fmt.Errorf("read the objects: %w", err)
	}
	verdicts := make([]verdict, 0, len(objects))
	for _, object := range objects {
		one, err := judge(string(script), object)
		if err != nil {
			return err
		}
		verdicts = append(verdicts, one)
	}
	return json.NewEncoder(os.Stdout).Encode(verdicts)
}

func judge(script string, object map[string]any) (verdict, error) {
	text, err := json.Marshal(object)
	if err != nil {
		return verdict{}, err
	}
	// Its own decoder: kstatus asks for integers, which encoding/json does not know.
	var seen unstructured.Unstructured
	if err := seen.UnmarshalJSON(text); err != nil {
		return verdict{}, err
	}
	computed, err := status.Compute(&seen)
	if err != nil {
		return verdict{}, fmt.Errorf("kstatus: %w", err)
	}
	health, message, err := argo(script, object)
	if err != nil {
		return verdict{}, fmt.Errorf("lua: %w", err)
	}
	return verdict{Kstatus: string(computed.Status), Argo: health, ArgoMessage: message}, nil
}

// argo runs the script as Argo CD does: the object is the global obj, there is little of a library and little time.
func argo(script string, object map[string]any) (string, string, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{
		lua.LoadLibName: lua.OpenPackage,
		lua.BaseLibName: lua.OpenBase,
		lua.TabLibName:  lua.OpenTable,
	} {
		if err := state.CallByParam(lua.P{Fn: state.NewFunction(open), Protect: true}, lua.LString(name)); err != nil {
			return "", "", err
		}
	}
	limit, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	state.SetContext(limit)
	state.SetGlobal("obj", value(state, object))
	if err := state.DoString(script); err != nil {
		return "", "", err
	}
	table, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return "", "", fmt.Errorf("the script returned no table but %s", state.Get(-1))
	}
	return table.RawGetString("status").String(), table.RawGetString("message").String(), nil
}

func value(state *lua.LState, from any) lua.LValue {
	switch from := from.(type) {
	case map[string]any:
		table := state.NewTable()
		for key, one := range from {
			table.RawSetString(key, value(state, one))
		}
		return table
	case []any:
		table := state.NewTable()
		for _, one := range from {
			table.Append(value(state, one))
		}
		return table
	case string:
		return lua.LString(from)
	case float64:
		return lua.LNumber(from)
	case bool:
		return lua.LBool(from)
	default:
		return lua.LNil
	}
}
