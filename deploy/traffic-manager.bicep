// Azure Traffic Manager before the application of every region: one name for reads, which leads to the nearest region that may be
// read, and one for writes, which leads to the region that is a writer now. Deploy it into a resource group of its own:
//
//   az deployment group create --resource-group NAME --template-file deploy/traffic-manager.bicep
//
// This file was not compiled or deployed where it was written: there is no Azure there. A test holds its structure (every region an
// endpoint of both profiles, paths, intervals, priorities). Run `az bicep build --file deploy/traffic-manager.bicep` before you rely
// on it.
//
// Traffic Manager answers names and carries nothing. It probes with GET and there is no other choice, by the host name of the
// endpoint and by a port of its own: the listener that `[health] listen` names in the region's daemons, which has to be reached from
// Traffic Manager's probers (service tag AzureTrafficManager). Put TLS before it and set protocol to HTTPS where the way is not
// trusted; the answers hold no secret.
//
// A client keeps an address for the time to live of the name and often longer, so a failover takes longer here than with Front
// Door. When every endpoint fails its probes, all of them are answered.

@description('Names of the profiles: NAME-read.trafficmanager.net and NAME-write.trafficmanager.net.')
param name string = 'tablerelay'

@description('The regions, by their names in the configuration: where the application of each is reached, the Azure location that it is nearest to, and in which order writes try them.')
param regions array = [
  {
    name: 'west'
    target: 'west.example.com'
    location: 'West Europe'
    writePriority: 1
  }
  {
    name: 'north'
    target: 'north.example.com'
    location: 'North Europe'
    writePriority: 2
  }
  {
    name: 'south'
    target: 'south.example.com'
    location: 'France South'
    writePriority: 3
  }
]

@description('The port of [health] listen.')
param healthPort int = 9465

@description('HTTP, or HTTPS where TLS ends before the daemons.')
@allowed([
  'HTTP'
  'HTTPS'
])
param healthProtocol string = 'HTTP'

// Reads: the nearest region that is fresh enough.
resource read 'Microsoft.Network/trafficManagerProfiles@2022-04-01' = {
  name: '${name}-read'
  location: 'global'
  properties: {
    profileStatus: 'Enabled'
    trafficRoutingMethod: 'Performance'
    dnsConfig: {
      relativeName: '${name}-read'
      ttl: 30
    }
    monitorConfig: {
      protocol: healthProtocol
      port: healthPort
      path: '/health/read'
      // The fast interval, for which timeouts are 5 to 9 seconds.
      intervalInSeconds: 10
      timeoutInSeconds: 5
      toleratedNumberOfFailures: 2
      expectedStatusCodeRanges: [
        {
          min: 200
          max: 200
        }
      ]
    }
    endpoints: [for region in regions: {
      name: region.name
      type: 'Microsoft.Network/trafficManagerProfiles/externalEndpoints'
      properties: {
        target: region.target
        endpointLocation: region.location
        endpointStatus: 'Enabled'
      }
    }]
  }
}

// Writes: the first region by priority that says that it is a writer.
resource write 'Microsoft.Network/trafficManagerProfiles@2022-04-01' = {
  name: '${name}-write'
  location: 'global'
  properties: {
    profileStatus: 'Enabled'
    trafficRoutingMethod: 'Priority'
    dnsConfig: {
      relativeName: '${name}-write'
      // So long after a failover clients may go to the old writer.
      ttl: 10
    }
    monitorConfig: {
      protocol: healthProtocol
      port: healthPort
      path: '/health/write'
      intervalInSeconds: 10
      timeoutInSeconds: 5
      toleratedNumberOfFailures: 1
      expectedStatusCodeRanges: [
        {
          min: 200
          max: 200
        }
      ]
    }
    endpoints: [for region in regions: {
      name: region.name
      type: 'Microsoft.Network/trafficManagerProfiles/externalEndpoints'
      properties: {
        target: region.target
        priority: region.writePriority
        endpointStatus: 'Enabled'
      }
    }]
  }
}

output readHostName string = read.properties.dnsConfig.fqdn
output writeHostName string = write.properties.dnsConfig.fqdn
