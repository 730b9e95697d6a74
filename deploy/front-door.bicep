// Azure Front Door before the application of every region: reads go to the nearest region that may be read, writes to the region that
// is a writer now. Deploy it into a resource group of its own:
//
//   az deployment group create --resource-group NAME --template-file deploy/front-door.bicep
//
// This file was not compiled or deployed where it was written: there is no Azure there. A test holds its structure (every region an
// origin of both groups, paths, intervals, priorities). Run `az bicep build --file deploy/front-door.bicep` before you rely on it.
//
// Front Door probes the origin that it sends traffic to, by the same host name and port. So the ingress of each region has to pass
// /health/read and /health/write on to the listener that `[health] listen` names in the region's daemons, and to nothing else of
// them. What a probe costs there is in docs/consistency.md.
//
// A probe is no fence. Edges learn of a failover one by one, and when every origin of a group fails its probes, Front Door sends
// traffic to all of them. What an old writer's region still takes in is for the daemons to deal with.

@description('The name of the profile; the host name of the endpoint begins with it.')
param name string = 'tablerelay'

@description('The regions, by their names in the configuration: where the application of each is reached, and in which order writes try them. Only a writer answers its probe, so the order counts where several are.')
param regions array = [
  {
    name: 'west'
    hostName: 'west.example.com'
    writePriority: 1
  }
  {
    name: 'north'
    hostName: 'north.example.com'
    writePriority: 2
  }
  {
    name: 'south'
    hostName: 'south.example.com'
    writePriority: 3
  }
]

resource profile 'Microsoft.Cdn/profiles@2023-05-01' = {
  name: name
  location: 'global'
  sku: {
    name: 'Standard_AzureFrontDoor'
  }
  properties: {
    // A write that waits for copies in other regions (consistency = "synchronous") takes as long as copies_within.
    originResponseTimeoutSeconds: 60
  }
}

resource endpoint 'Microsoft.Cdn/profiles/afdEndpoints@2023-05-01' = {
  parent: profile
  name: name
  location: 'global'
  properties: {
    enabledState: 'Enabled'
  }
}

// Reads: the nearest region that is fresh enough. Only 200 counts as healthy; HEAD has no body.
resource readGroup 'Microsoft.Cdn/profiles/originGroups@2023-05-01' = {
  parent: profile
  name: 'read'
  properties: {
    healthProbeSettings: {
      probePath: '/health/read'
      probeRequestType: 'HEAD'
      probeProtocol: 'Https'
      probeIntervalInSeconds: 10
    }
    loadBalancingSettings: {
      // Two of three probes: one that is lost moves nobody.
      sampleSize: 3
      successfulSamplesRequired: 2
      // The fastest origin, and none that is nearly as fast: readers stay where they are.
      additionalLatencyInMilliseconds: 0
    }
    sessionAffinityState: 'Disabled'
  }
}

// Writes: the region that says that it is a writer. In multi-active all do, and the first by priority takes them.
resource writeGroup 'Microsoft.Cdn/profiles/originGroups@2023-05-01' = {
  parent: profile
  name: 'write'
  properties: {
    healthProbeSettings: {
      probePath: '/health/write'
      probeRequestType: 'HEAD'
      probeProtocol: 'Https'
      // The shortest there is: so long, and twice, an edge may send writes to a region that is no writer any more.
      probeIntervalInSeconds: 5
    }
    loadBalancingSettings: {
      sampleSize: 3
      successfulSamplesRequired: 2
      // Priorities decide, not latency.
      additionalLatencyInMilliseconds: 1000
    }
    sessionAffinityState: 'Disabled'
  }
}

resource readOrigins 'Microsoft.Cdn/profiles/originGroups/origins@2023-05-01' = [for region in regions: {
  parent: readGroup
  name: region.name
  properties: {
    hostName: region.hostName
    originHostHeader: region.hostName
    httpPort: 80
    httpsPort: 443
    // All alike, so that latency decides.
    priority: 1
    weight: 1000
    enabledState: 'Enabled'
    enforceCertificateNameCheck: true
  }
}]

resource writeOrigins 'Microsoft.Cdn/profiles/originGroups/origins@2023-05-01' = [for region in regions: {
  parent: writeGroup
  name: region.name
  properties: {
    hostName: region.hostName
    originHostHeader: region.hostName
    httpPort: 80
    httpsPort: 443
    priority: region.writePriority
    weight: 1000
    enabledState: 'Enabled'
    enforceCertificateNameCheck: true
  }
}]

resource rules 'Microsoft.Cdn/profiles/ruleSets@2023-05-01' = {
  parent: profile
  name: 'writes'
}

// Whatever is no read goes to the writer. PATCH is no value that a condition can name, so it says what a read is.
resource toTheWriter 'Microsoft.Cdn/profiles/ruleSets/rules@2023-05-01' = {
  parent: rules
  name: 'toTheWriter'
  properties: {
    order: 1
    conditions: [
      {
        name: 'RequestMethod'
        parameters: {
          typeName: 'DeliveryRuleRequestMethodConditionParameters'
          operator: 'Equal'
          negateCondition: true
          matchValues: [
            'GET'
            'HEAD'
            'OPTIONS'
          ]
        }
      }
    ]
    actions: [
      {
        name: 'RouteConfigurationOverride'
        parameters: {
          typeName: 'DeliveryRuleRouteConfigurationOverrideActionParameters'
          originGroupOverride: {
            originGroup: {
              id: writeGroup.id
            }
            forwardingProtocol: 'HttpsOnly'
          }
        }
      }
    ]
    matchProcessingBehavior: 'Stop'
  }
  dependsOn: [
    writeOrigins
  ]
}

resource route 'Microsoft.Cdn/profiles/afdEndpoints/routes@2023-05-01' = {
  parent: endpoint
  name: 'all'
  properties: {
    originGroup: {
      id: readGroup.id
    }
    ruleSets: [
      {
        id: rules.id
      }
    ]
    patternsToMatch: [
      '/*'
    ]
    supportedProtocols: [
      'Http'
      'Https'
    ]
    forwardingProtocol: 'HttpsOnly'
    httpsRedirect: 'Enabled'
    linkToDefaultDomain: 'Enabled'
    enabledState: 'Enabled'
  }
  dependsOn: [
    readOrigins
    toTheWriter
  ]
}

output hostName string = endpoint.properties.hostName
