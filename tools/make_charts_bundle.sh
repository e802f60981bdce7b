#!/bin/bash
# Makes third_party/echarts/echarts.min.js: Apache ECharts with only the charts and components that the report's page
# uses. Needs Node.js and npm with a package registry; users' builds need neither, the result is committed.
#   tools/make_charts_bundle.sh
set -euo pipefail

# Pinned: the same versions give the same bundle, byte by byte. ECharts pins zrender and tslib itself.
echarts_version=5.6.0
esbuild_version=0.25.12

folder=$(cd "$(dirname "$0")/../third_party/echarts" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

npm init --yes >npm.log
npm install --save-exact --no-audit --no-fund "echarts@$echarts_version" "esbuild@$esbuild_version" >>npm.log 2>&1 ||
  { cat npm.log >&2; exit 1; }

# What src/knapsaq/report/page/*.js asks for; a series or component that is missing here is silently not drawn.
cat >entry.js <<'END'
import * as echarts from 'echarts/core';
import {BarChart, CustomChart, HeatmapChart, LineChart, ScatterChart} from 'echarts/charts';
import {GridComponent, LegendComponent, MarkLineComponent, TooltipComponent,
        VisualMapPiecewiseComponent, VisualMapContinuousComponent} from 'echarts/components';
import {CanvasRenderer} from 'echarts/renderers';
echarts.use([BarChart, CustomChart, HeatmapChart, LineChart, ScatterChart, GridComponent, LegendComponent,
             MarkLineComponent, TooltipComponent, VisualMapPiecewiseComponent, VisualMapContinuousComponent,
             CanvasRenderer]);
export const init = echarts.init;
export const version = echarts.version;
END
zrender_version=$(node --print "require('./node_modules/zrender/package.json').version")
tslib_version=$(node --print "require('./node_modules/tslib/package.json').version")
banner="/*! Apache ECharts $echarts_version (Apache-2.0), zrender $zrender_version (BSD-3-Clause), tslib $tslib_version (0BSD): reduced bundle, licences in third_party/echarts/LICENSE and NOTICE of Knapsaq */"
npx --no-install esbuild entry.js --bundle --minify --format=iife --global-name=echarts --target=es2019 \
  --charset=ascii --legal-comments=none --define:process.env.NODE_ENV='"production"' --banner:js="$banner" \
  --outfile=echarts.min.js --log-level=warning

cp echarts.min.js "$folder/echarts.min.js"
# One LICENSE for all that is inside: ECharts' own with its parts, then those of the two libraries it brings.
{
  cat node_modules/echarts/LICENSE
  printf '\nlicenses/LICENSE-d3:\n\n'
  cat node_modules/echarts/licenses/LICENSE-d3
  printf '\n\n========================================================================\nzrender %s\n========================================================================\n\n' "$zrender_version"
  cat node_modules/zrender/LICENSE
  printf '\n\n========================================================================\ntslib %s\n========================================================================\n\n' "$tslib_version"
  cat node_modules/tslib/LICENSE.txt
} >"$folder/LICENSE"
{ cat node_modules/echarts/NOTICE; echo; } >"$folder/NOTICE"
echo "echarts.min.js: $(stat -c %s "$folder/echarts.min.js") bytes, sha256 $(sha256sum <"$folder/echarts.min.js" | cut -d ' ' -f 1)"
